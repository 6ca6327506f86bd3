'use strict';
// Tables that are sorted by a click, and the explorer. What is shown stands in the address behind
// the #, so that a link shows the same to whoever gets it: search, query, sort and order.
const state = new URLSearchParams(location.hash.slice(1));

function remember(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === '' || value === null) state.delete(name);
    else state.set(name, value);
  }
  // Replaced, so that the way back does not lead through every letter that was typed.
  location.replace('#' + state);
}

function sortTable(table, column, down) {
  const value = row => {
    const text = row.cells[column].dataset.value;
    return isNaN(text) ? text : Number(text);
  };
  const rows = [...table.tBodies[0].rows];
  rows.sort((p, q) => {
    const a = value(p), b = value(q);
    return (a > b ? 1 : a < b ? -1 : 0) * (down ? -1 : 1);
  });
  table.tBodies[0].append(...rows);
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    else cell.removeAttribute('aria-sort');
  });
}

for (const table of document.querySelectorAll('table.sortable')) {
  const cells = [...table.tHead.rows[0].cells];
  cells.forEach((cell, column) => {
    cell.querySelector('button').onclick = () => {
      const down = cell.getAttribute('aria-sort') !== 'descending';
      sortTable(table, column, down);
      remember({sort: cell.textContent, order: down ? 'down' : 'up'});
    };
  });
  const asked = cells.findIndex(cell => cell.textContent === state.get('sort'));
  if (asked >= 0) sortTable(table, asked, state.get('order') !== 'up');
}

// Text is only ever set as text: names from a graph are no HTML.
function make(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter(child => child !== null));
  return made;
}

function explore(data) {
  const $ = id => document.getElementById(id);
  const pictures = new Map((data.pictures ? data.pictures.of : []).map((e, i) => [e, i]));
  const sheet = data.pictures && `url("data:image/png;base64,${data.pictures.png}")`;
  const LISTED = 80;

  function picture(entity, side) {
    if (!pictures.has(entity)) return null;
    const place = pictures.get(entity), columns = data.pictures.columns;
    const made = make('span', 'picture');
    made.style.backgroundImage = sheet;
    made.style.setProperty('--side', side + 'px');
    made.style.setProperty('--columns', columns);
    made.style.setProperty('--x', place % columns);
    made.style.setProperty('--y', Math.floor(place / columns));
    return made;
  }

  // "?" stands where the answer belongs: in the place of the tail, or of the head.
  function triple(entity, relation, inverse, other) {
    const parts = [data.names[entity], data.relations[relation], other];
    return (inverse ? parts.reverse() : parts).join(' · ');
  }

  function chips(flat, answer) {
    const made = [];
    for (let i = 0; i < flat.length; i += 2) {
      const share = flat[i + 1] < 10 ? '< 1 %' : Math.round(flat[i + 1] / 10) + ' %';
      const chip = make('span', flat[i] === answer ? 'chip right' : 'chip');
      // Two entities may have one name, a keyword and a group say.
      if (data.types) chip.title = data.types[flat[i]];
      const small = picture(flat[i], 20);
      if (small) chip.append(small, ' ');
      chip.append(data.names[flat[i]] + ' ', make('i', '', share));
      made.push(chip);
    }
    return make('div', '', ...made);
  }

  const rank = value => Number(value.toFixed(1)).toLocaleString('en');

  function mask(agent, number) {
    if (agent.chosen === null) return make('div', 'soft', 'says nothing of untaught queries');
    const kind = agent.kind === 'mask' ? 'would choose' : agent.kind + ' of';
    const pills = agent.teachers.map((teacher, k) => {
      const share = agent.chosen[number][k];
      const said = agent.kind === 'mask' ? teacher : `${teacher} ${share.toFixed(2)}`;
      const pill = make('span', share > 0.5 ? 'mask' : 'mask out', said);
      pill.style.setProperty('--share', share);
      pill.title = agent.kind === 'mask' ? (share > 0.5 ? 'chosen' : 'not chosen') : agent.kind;
      return pill;
    });
    if (agent.kind === 'mask') {
      const chosen = pills.filter((_, k) => agent.chosen[number][k] > 0.5);
      const rest = chosen.length ? chosen : [make('span', 'soft', 'nobody')];
      return make('div', '', make('span', 'soft', kind), ...rest);
    }
    return make('div', '', make('span', 'soft', kind), ...pills);
  }

  function who(name, ranks, ...rest) {
    const line = make('div', '', make('b', '', name), make('span', 'rank', 'rank ' + ranks));
    return make('div', 'who', line, ...rest);
  }

  function show(number) {
    const [entity, relation, inverse, answer, known] = data.queries[number];
    const about = data.about[entity];
    const type = data.types ? data.types[entity] : '';
    const facts = about.facts.map(([r, back, other]) => triple(entity, r, back, data.names[other]));
    const more = about.triples > facts.length ? ` … of ${about.triples}` : '';
    const subject = make('div', 'subject', picture(entity, 96), make('div', '',
      make('h3', '', data.names[entity]),
      type ? make('p', 'soft', type) : null,
      about.text ? make('p', '', about.text) : null,
      make('p', 'soft', facts.length ? 'In train: ' + facts.join('; ') + more : 'Not in train.')));
    const others = known ? ` (and ${known} other known answer${known > 1 ? 's' : ''}, left out)` : '';
    const question = make('p', 'question', triple(entity, relation, inverse, '?'), ' → ',
      picture(answer, 24), ' ', make('strong', '', data.names[answer]), others);
    const teachers = data.teachers.map(one =>
      who(one.name, rank(one.ranks[number]), chips(one.top[number], answer)));
    const before = data.before.map(one =>
      who(`untrained, seed ${one.seed}`, rank(one.ranks[number]), chips(one.top[number], answer)));
    const agents = data.agents.map(one => who(one.name,
      `${rank(data.before[one.before].ranks[number])} → ${rank(one.ranks[number])}`,
      mask(one, number), chips(one.top[number], answer)));
    $('shown').replaceChildren(subject, question, make('h4', '', 'The teachers'), ...teachers);
    if (before.length) $('shown').append(make('h4', '', 'The student before training'), ...before);
    if (agents.length) $('shown').append(make('h4', '', 'The student after training'), ...agents);
    for (const button of $('queries').querySelectorAll('button')) {
      button.setAttribute('aria-current', Number(button.dataset.query) === number);
    }
  }

  function find(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.queries.flatMap(([entity, relation], number) => {
      const name = `${data.names[entity]} ${data.relations[relation]}`.toLowerCase();
      return words.every(word => name.includes(word)) ? [number] : [];
    });
    const shown = found.slice(0, LISTED);
    const cut = found.length > shown.length ? `, the first ${shown.length} are listed` : '';
    $('found').textContent = `${found.length} of ${data.queries.length} queries${cut}`;
    $('queries').replaceChildren(...shown.map(number => {
      const [entity, relation, inverse] = data.queries[number];
      const button = make('button', '', triple(entity, relation, inverse, '?'));
      button.dataset.query = number;
      button.onclick = () => { show(number); remember({query: number}); };
      return make('li', '', button);
    }));
    return found;
  }

  $('search').value = state.get('search') || '';
  const found = find($('search').value);
  const asked = Number(state.get('query') ?? NaN);
  if (asked in data.queries) show(asked);
  else if (found.length) show(found[0]);
  if (state.has('query') || state.has('search')) $('explorer').scrollIntoView();
  $('search').oninput = () => {
    const text = $('search').value.trim(), left = find(text);
    remember({search: text});
    if (left.length) { show(left[0]); remember({query: left[0]}); }
  };
}

const data = document.getElementById('explorer-data');
if (data) explore(JSON.parse(data.textContent));
