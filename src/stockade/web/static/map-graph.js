// A reply of the server as a graph to draw: what each node and strand looks like, and where it begins.
// Pure: the same reply gives the same graph. Names are texts to draw, never markup.
'use strict'

window.stockadeMap = (() => {
  const MARK = { allowed: '●', denied: '✕', pending: '◐', unknown: '?' }
  const KINDS = { allowed: 'allowed', denied: 'denied', 'would be denied': 'pending', carried: 'unknown' }
  const SOLID = 100000 // pixels of one dash: longer than any edge
  const SHAPE = { workloads: 'circle', network: 'square', unknown: 'diamond' }

  const colours = () => {
    const style = getComputedStyle(document.documentElement)
    const of = (name) => style.getPropertyValue(`--${name}`).trim()
    return Object.fromEntries(['allowed', 'denied', 'pending', 'unknown', 'ink', 'quiet', 'accent', 'paper', 'ground', 'line-strong', 'map-edge'].map((name) => [name, of(name)]))
  }

  const short = (number) =>
    number < 1000 ? String(number) : number < 1e6 ? `${+(number / 1e3).toPrecision(3)}k` : `${+(number / 1e6).toPrecision(3)}M`

  // What nodes are called on the map: as few of their values, from the last, as tell each from all others.
  const names = (nodes) => {
    const inside = nodes.filter((each) => each.kind !== 'network')
    const ends = (node, count) => node.values.slice(-count).map(([, value]) => value)
    const key = (node, count) => `${count}|${JSON.stringify(ends(node, count))}`
    const alike = new Map()
    for (const each of inside) {
      for (let count = 1; count <= each.values.length; count++) alike.set(key(each, count), (alike.get(key(each, count)) || 0) + 1)
    }
    const called = (node) => {
      for (let count = 1; count <= node.values.length; count++) {
        const told = ends(node, count).filter(Boolean)
        if (told.length && (alike.get(key(node, count)) === 1 || count === node.values.length)) return told.join(' / ')
      }
      return node.kind === 'unknown' ? 'unknown' : node.values.map(([name]) => `no ${name}`).join(', ') || 'all'
    }
    return new Map(nodes.map((each) => [each.id, each.kind === 'network' ? each.text : called(each)]))
  }
  const label = (node, name) =>
    clipped(name) + (node.workloads > 1 ? ` ×${short(node.workloads)}` : '') + (node.findings ? `  ▲${node.findings}` : '')
  const clipped = (text) => (text.length > 34 ? `${text.slice(0, 33)}…` : text)

  const radius = (node) => 7 + 4.5 * Math.log10(1 + Math.max(node.workloads, 1))

  const kind = (edge) => (edge.observed ? KINDS[edge.observed.verdict] : 'permitted')

  const thick = (connections) => 1.4 + 1.15 * Math.log10(1 + connections)

  // A number from 0 to 1 that follows from a text alone.
  const chance = (text, salt) => {
    let hash = 2166136261 ^ salt
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619)
    hash ^= hash >>> 15
    return ((Math.imul(hash, 2246822519) ^ (hash >>> 13)) >>> 0) / 4294967296
  }
  const begin = (id, [wide, high]) => [(chance(id, 1) - 0.5) * wide, (chance(id, 2) - 0.5) * high]

  const nodeLook = (node, name, colour) => ({
    size: radius(node),
    label: label(node, name),
    shape: SHAPE[node.kind],
    color: { workloads: colour.accent, network: colour.quiet, unknown: colour.unknown }[node.kind],
    labelColor: colour.ink,
    kind: node.kind,
  })

  // The strands of one edge, each with a form of its own: [key, attributes].
  const strands = (edge, colour) => {
    const id = `${edge.source}~${edge.destination}`
    const found = []
    if (edge.observed) {
      const seen = edge.observed.seen
      const verdict = kind(edge)
      const urgent = verdict !== 'allowed'
      const count = verdict === 'denied' ? seen.denied : verdict === 'pending' ? seen.would_deny : seen.connections
      found.push([`o|${id}`, {
        edge: id, strand: 'observed', show: verdict, size: thick(seen.connections) + (urgent ? 0.9 : 0), dash: SOLID, gap: 1, zIndex: urgent ? 2 : 1,
        color: verdict === 'allowed' ? colour['map-edge'] : colour[verdict],
        head: { allowed: 'arrow', denied: 'bar', pending: 'diamond', unknown: 'circle' }[verdict],
        label: `${MARK[verdict]} ${short(count)}`, labelColor: verdict === 'allowed' ? colour.quiet : colour[verdict], urgent,
      }])
    }
    if (edge.permitted && edge.permitted.pairs && !edge.observed) {
      found.push([`p|${id}`, thin(id, 'permitted', colour['line-strong'], false)])
    } else if (edge.permitted && edge.permitted.pairs) {
      found.push([`p|${id}`, { ...thin(id, 'permitted', colour['line-strong'], false), show: kind(edge) }])
    }
    if (edge.needed && edge.needed.pairs) found.push([`n|${id}`, thin(id, 'needed', colour.accent, true)])
    return found
  }
  const thin = (id, strand, color, dashed) => ({
    edge: id, strand, show: strand, size: strand === 'needed' ? 1.8 : 1, dash: dashed ? 6 : SOLID, gap: dashed ? 5 : 1, color, zIndex: 0, head: 'arrow', label: '', labelColor: color, urgent: false,
  })

  return { MARK, colours, short, names, label, radius, kind, begin, nodeLook, strands }
})()
