"""A study with Optuna: it can be killed and resumed, and it never reads the test split.

What a choice is worth is the best valid MRR of its students.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from tqdm import tqdm

from agents.backends import LOCAL, Backend
from agents.hyperparameters import Sections
from agents.machine import provenance
from agents.resuming import FOLDER, Resumption
from agents.trial import train_student
from agents.trial_config import checkpoint_key, fill_caches, hyperparameters_of
from agents.tuning.config import FORMAT, TuningConfig, check_tuning
from agents.tuning.space import Options, Parameter, Range, Space, by_section, flat
from dsom_env.classroom import derived_seed
from dsom_env.config import DSoMConfig
from graphs.files import atomic_write, refusing, sweep
from graphs.numbers import DivergedError
from graphs.threads import one_thread

JOURNAL = "journal.log"
_JOURNAL_BEGINS = b'{"op_code"'
_STUDY = "tune"
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Complete trials before any is pruned: a median of fewer says little.
_TRIALS_BEFORE_PRUNING = 5


@dataclass(frozen=True)
class Outcome:
    """What became of a choice.

    Attributes:
        valid_mrr: best valid MRR of each seed's student, the last of a pruned choice so far.
        seconds: wall-clock time.
        pruned: whether it was given up.
        error: why a student diverged, or None.
    """

    valid_mrr: tuple[float, ...]
    seconds: float
    pruned: bool = False
    error: str | None = None


def run_choice(
    config: TuningConfig,
    parameters: Sections,
    report: Callable[[int, float], bool],
    checkpoints: Path | None = None,
) -> Outcome:
    """Train a student from each seed, one after the other.

    Args:
        config: the study.
        parameters: by section and name.
        report: called with (step, value) after each epoch, where a step is an epoch of a seed and
            the value is the sum of the best valid MRRs so far, by the number of *all* seeds:
            it only grows, means the same at the same step of every choice, and ends as the
            objective. Says whether to give the choice up.
        checkpoints: folder in which a choice that was killed is found again by what was chosen, for
            the next choice that is the same; None for no such thing.
    """
    best: list[float] = []
    runs: list[Resumption] = []
    seconds: list[float] = []
    epochs, last = config.trial.epochs, config.trial.epochs * len(config.seeds)

    def on_epoch(epoch: int, mrr: float) -> None:
        best[-1] = max(best[-1], mrr)
        step = (len(best) - 1) * epochs + epoch
        if report(step, sum(best) / len(config.seeds)) and step < last:
            raise optuna.TrialPruned

    def outcome(pruned: bool = False, error: str | None = None) -> Outcome:
        seconds.extend(run.seconds for run in runs[len(seconds) :])
        for run in runs:
            run.remove()
        return Outcome(tuple(best), round(sum(seconds), 2), pruned, error)

    try:
        for seed in config.seeds:
            best.append(0.0)
            trial = replace(config.trial, seed=seed, changes=parameters)
            folder = checkpoints / trial.key if checkpoints else None
            runs.append(Resumption(None, folder, checkpoint_key(trial)))
            trained = train_student(trial, runs[-1], on_epoch)
            seconds.append(trained.seconds)
            trained.recorded.close()
    except optuna.TrialPruned:
        return outcome(pruned=True)
    except DivergedError as error:
        return outcome(pruned=True, error=str(error))
    return outcome()


def tune(
    config: TuningConfig,
    out: Path,
    trials: int = 40,
    jobs: int = 1,
    quiet: bool = False,
    backend: str = LOCAL,
) -> dict[str, Any]:
    """Run what is missing of a study, and write `study.json`.

    With one job the study is the same every time, whether it was interrupted or not.

    Args:
        config: what to search.
        out: folder of the study; made if need be. Running again with the same one resumes.
        trials: how many are to be finished, that is complete or pruned, in the end.
        jobs: processes, one thread each; one `local` works in this process.
        quiet: without a progress bar.
        backend: where they run, one of `agents.backends.BACKENDS`.

    Returns:
        The content of `study.json` (docs/tuning.md).

    Raises:
        ValueError: bad configuration, or `out` belongs to another one; nothing was written. Or
            a choice was refused by what it was meant for; the sentence says which.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    chosen = Backend(backend, jobs, out)
    check_tuning(config)
    key = config.key
    _be_silent()
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    study = _open_study(config, key, out)
    # Once here, so that the workers find everything in the cache.
    graph, _ = fill_caches([config.trial], quiet)
    context = {
        "config": config.to_json(),
        "graph": {"name": graph.name, "fingerprint": graph.fingerprint},
        "provenance": provenance("optuna"),
    }

    def write() -> dict[str, Any]:
        document = _document(study, context, trials)
        atomic_write(out / "study.json", json.dumps(document, indent=1).encode())
        return document

    done = len(study.get_trials(deepcopy=False, states=_FINISHED))
    missing = max(trials - done, 0)
    work = _run_all(study, config, out / JOURNAL, missing, chosen)
    try:
        with (
            tqdm(total=done + missing, initial=done, unit="trial", disable=quiet) as bar,
            closing(work),
        ):
            for _ in work:
                bar.update()
                best = write()["best"]
                bar.set_postfix_str(f"best valid MRR {best['valid_mrr']:.4f}" if best else "")
    except BaseException:
        _fail_running(study)
        write()
        raise
    # Of choices that nobody made again.
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    return write()


def _be_silent() -> None:
    """Optuna reports every trial on stderr; the progress bar does."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _open_study(config: TuningConfig, key: str, out: Path) -> optuna.Study:
    """The study in a folder, with nothing running.

    Raises:
        ValueError: it is another one, or none.
    """
    path = out / JOURNAL
    if path.exists():
        _drop_torn_line(path)
    with refusing(f"{path} is not the journal of a study"):
        storage, pruner = _storage(path), _pruner(config)
        # Optuna's `load_if_exists` writes to the journal, and this may be somebody else's.
        if _STUDY in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=_STUDY, storage=storage, pruner=pruner)
        else:
            study = optuna.create_study(
                study_name=_STUDY, storage=storage, pruner=pruner, direction="maximize"
            )
    if study.user_attrs.get("key", key) != key:
        raise ValueError(
            f"{out} holds a study of another configuration, or of other code of what was plugged "
            "in; choose another --out"
        )
    if "key" not in study.user_attrs:
        study.set_user_attr("key", key)
    _fail_running(study)
    return study


def _drop_torn_line(path: Path) -> None:
    """What a process that was killed while it wrote has left at the end."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    # Another program's file of this name stays as it is, and is refused when it is opened.
    if len(whole) < len(content) and content.startswith(_JOURNAL_BEGINS):
        atomic_write(path, whole)


def _storage(path: Path) -> JournalStorage:
    # The lock that works on Windows, too. Who holds it for seconds was killed as it wrote a line.
    lock = JournalFileOpenLock(str(path), grace_period=3)
    return JournalStorage(JournalFileBackend(str(path), lock))


def _pruner(config: TuningConfig) -> optuna.pruners.BasePruner:
    if not config.prune:
        return optuna.pruners.NopPruner()
    warmup = config.trial.epochs // 4
    return optuna.pruners.MedianPruner(_TRIALS_BEFORE_PRUNING, warmup)


def _fail_running(study: optuna.Study) -> None:
    """Nobody works any more on what a killed process had begun."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _run_all(
    study: optuna.Study, config: TuningConfig, journal: Path, missing: int, backend: Backend
) -> Generator[None]:
    """Finish as many trials as are missing; yields after each."""
    pending: dict[Future[Outcome], optuna.Trial] = {}
    with _executor(backend, missing) as submit:
        while missing or pending:
            while missing and len(pending) < (backend.jobs or 1):
                trial = _ask(study, config)
                parameters = _chosen(config.space, trial.params)
                trial.set_user_attr("parameters", parameters)
                future = submit(_run_in_worker, config, journal, trial.number, parameters)
                pending[future] = trial
                missing -= 1
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                _tell(study, pending.pop(future), future)
                yield


def _ask(study: optuna.Study, config: TuningConfig) -> optuna.Trial:
    """The next choice; the first is what stands in the agent's YAML, where the space holds it."""
    begun = study.get_trials(deepcopy=False, states=(*_FINISHED, TrialState.RUNNING))
    # A sampler of its own for each choice: one that went on from where it was could not be resumed.
    seed = derived_seed(config.seed, f"choice {len(begun)}")
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    if not begun and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        present = _present(config)
        if all(key in present and present[key] in part for key, part in config.space.items()):
            first = {key: _choice(present[key]) for key in config.space}
            study.enqueue_trial(first, user_attrs={"present": True})
    return study.ask({key: _distribution(part) for key, part in config.space.items()})


def _present(config: TuningConfig) -> dict[str, Any]:
    """Today's values by `section.name`."""
    sections = hyperparameters_of(config.trial)
    environment = DSoMConfig.from_kwargs(**sections["environment"])
    # Values that follow from others are known once it is made.
    usual = {field.name: getattr(environment, field.name) for field in fields(DSoMConfig)}
    sections["environment"] = usual | sections["environment"]
    return flat(sections)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Options):
        return CategoricalDistribution([_choice(value) for value in parameter.values])
    low, high, log, step = parameter.low, parameter.high, parameter.log, parameter.step
    if parameter.whole:
        return IntDistribution(int(low), int(high), log, int(step or 1))
    return FloatDistribution(low, high, log, step)


def _choice(value: Any) -> Any:
    """An option as Optuna can keep it."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _chosen(space: Space, drawn: Mapping[str, Any]) -> Sections:
    """What is run for what Optuna has drawn, by section and name."""
    values = {}
    for key, parameter in space.items():
        value = drawn[key]
        if isinstance(parameter, Range):
            values[key] = parameter.rounded(value)
        else:
            values[key] = next(one for one in parameter.values if _choice(one) == value)
    return by_section(values)


def _run_in_worker(
    config: TuningConfig, journal: Path, number: int, parameters: Sections
) -> Outcome:
    _be_silent()
    storage = _storage(journal)
    study = optuna.load_study(study_name=_STUDY, storage=storage, pruner=_pruner(config))
    study_id = storage.get_study_id_from_name(_STUDY)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def report(step: int, value: float) -> bool:
        storage.set_trial_intermediate_value(trial_id, step, value)
        trial = copy.copy(storage.get_trial(trial_id))
        # A worker that died here has reported later steps already; they are not this one's.
        told = trial.intermediate_values.items()
        trial.intermediate_values = {earlier: mrr for earlier, mrr in told if earlier <= step}
        return study.pruner.prune(study, trial)

    return run_choice(config, parameters, report, journal.parent / FOLDER)


def _tell(study: optuna.Study, trial: optuna.Trial, future: Future[Outcome]) -> None:
    try:
        outcome = future.result()
    except Exception as error:
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
        if isinstance(error, ValueError):
            chosen = json.dumps(trial.user_attrs["parameters"])
            raise ValueError(f"{error}; trial {trial.number} had chosen {chosen}") from error
        raise
    for name in ("valid_mrr", "seconds", "error"):
        if getattr(outcome, name) is not None:
            trial.set_user_attr(name, getattr(outcome, name))
    if outcome.pruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, sum(outcome.valid_mrr) / len(outcome.valid_mrr))


_Submit = Callable[..., "Future[Outcome]"]


@contextmanager
def _executor(backend: Backend, calls: int) -> Iterator[_Submit]:
    """Something that runs a function, in this process or in a worker."""
    if backend.name != LOCAL or min(backend.jobs or 1, calls) > 1:
        with backend.workers(calls) as workers:
            yield workers.submit
        return
    # As in a worker, so that the bits are the same.
    with one_thread():
        yield _run_here


def _run_here(function: Callable[..., Outcome], *arguments: Any) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:  # raised again by whoever asks for the result
        future.set_exception(error)
    return future


def _document(study: optuna.Study, context: Mapping[str, Any], wanted: int) -> dict[str, Any]:
    trials = [_entry(trial) for trial in study.get_trials(deepcopy=False)]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    finished = [trial for trial in trials if trial["state"] in ("complete", "pruned")]
    return {
        "format": FORMAT,
        "complete": len(finished) >= wanted,
        **context,
        # The earliest of equals.
        "best": max(complete, key=lambda trial: trial["valid_mrr"], default=None),
        "trials": trials,
    }


def _entry(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """An entry of `trials` of `study.json`."""
    attributes = trial.user_attrs
    states = {TrialState.FAIL: "failed"}
    return {
        "number": trial.number,
        "state": states.get(trial.state, trial.state.name.lower()),
        "valid_mrr": trial.value if trial.state == TrialState.COMPLETE else None,
        "valid_mrr_by_seed": list(attributes.get("valid_mrr", [])),
        "epochs": max(trial.intermediate_values, default=0),
        "parameters": attributes.get("parameters", {}),
        "present": attributes.get("present", False),
        "seconds": attributes.get("seconds"),
        "error": attributes.get("error"),
    }
