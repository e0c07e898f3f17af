// The table beneath the map: the same reply as the picture, a row for each edge, most urgent first.
// Without scripts it is what the server sent. Names are texts, never markup.
'use strict'

window.stockadeTable = (table, look, query) => {
  const NOBODY = { source: null, destination: null }
  let nodes = new Map()
  let wide = false // with what a draft needs

  function fill(known, edges) {
    nodes = known
    table.querySelector('table').hidden = false
    const body = table.querySelector('tbody')
    const before = new Map([...body.querySelectorAll('tr[data-edge]')].map((row) => [row.dataset.edge, row]))
    const urgency = ({ observed }) => (observed ? [-observed.seen.denied, -observed.seen.would_deny, -observed.seen.connections] : [0, 0, 1])
    const sorted = [...edges].sort(([one, a], [other, b]) => {
      const [x, y] = [urgency(a), urgency(b)]
      return x[0] - y[0] || x[1] - y[1] || x[2] - y[2] || (one < other ? -1 : 1)
    })
    const same = (row, edge) => row.dataset.edge &&
      row.cells[1]?.textContent.trim() === nodes.get(edge.source)?.text && row.cells[2]?.textContent.trim() === nodes.get(edge.destination)?.text
    wide = table.querySelectorAll('thead th').length > 8
    for (const row of [...body.rows]) if (!same(row, edges.get(row.dataset.edge) ?? NOBODY)) row.remove()
    // Rows that are there stay where they stand, so that whoever reads them goes on; new ones come where they are due.
    let next = null
    for (const [key, edge] of sorted.reverse()) {
      const there = before.get(key)?.isConnected ? before.get(key) : null
      if (there) numbers(there, edge)
      next = there ?? body.insertBefore(row(key, edge), next)
    }
    if (!body.rows.length) body.append(none())
  }

  function none() {
    const made = document.createElement('tr')
    made.append(Object.assign(cell('td', 'No edge.', 'nothing'), { colSpan: 10 }))
    return made
  }

  const cell = (tag, text, kind = '') => Object.assign(document.createElement(tag), { textContent: text, className: kind })
  const strand = (it) => (it === null || it === undefined ? '? not assessed' : !it.pairs ? 'nothing' : it.pairs === it.of ? it.on : `${it.on} (${it.pairs} of ${it.of} pairs)`)
  const size = (octets) => {
    const units = ['B', 'kB', 'MB', 'GB', 'TB']
    let at = 0
    let value = octets
    while (value >= 1000 && at < 4) { value /= 1000; at += 1 }
    return `${at && value < 10 ? value.toFixed(1) : value.toFixed(0)} ${units[at]}`
  }

  function row(key, edge) {
    const made = document.createElement('tr')
    made.dataset.edge = key
    const link = (text, more, kind) => Object.assign(document.createElement('a'), { textContent: text, className: kind, href: `/map?${query(more)}` })
    const mark = cell('td', edge.observed ? look.MARK[look.kind(edge)] : '', `mark-text ${look.kind(edge)}`)
    if (edge.observed) mark.setAttribute('aria-label', edge.observed.verdict)
    const from = document.createElement('th')
    from.scope = 'row'
    from.append(link(nodes.get(edge.source).text, { edge: key, node: null }, 'row'))
    const to = document.createElement('td')
    to.append(link(nodes.get(edge.destination).text, { node: edge.destination, edge: null }, 'plain'))
    const ports = edge.observed ? edge.observed.ports.slice(0, 3).map((each) => each).join(', ') + (edge.observed.ports_count > 3 ? ` and ${edge.observed.ports_count - 3} more` : '') : '–'
    made.append(mark, from, to, cell('td', ports, 'wide'), cell('td', '', 'number'), cell('td', '', 'number'), cell('td', '', 'number'), cell('td', '', 'wide'))
    if (wide) made.append(cell('td', '', 'wide'), cell('td', ''))
    numbers(made, edge)
    return made
  }

  function numbers(made, edge) {
    const seen = edge.observed?.seen
    const put = (at, text) => { if (made.cells[at] && made.cells[at].textContent.trim() !== text) made.cells[at].textContent = text }
    put(4, String(seen?.connections ?? 0))
    put(5, String(seen?.denied ?? 0))
    put(6, seen ? size(seen.bytes_out + seen.bytes_in) : '–')
    put(7, strand(edge.permitted))
    if (made.cells.length > 8) { put(8, strand(edge.needed)); put(9, edge.pending ?? '–') }
  }

  return { fill }
}
