// Lays out the map, in a worker: ForceAtlas2 from a start that follows from each node's id, then labels moved apart.
// The same graph comes out the same. Nodes that are `fixed` stay where they are.
'use strict'

self.module = {}
importScripts(new URL(self.location.href).searchParams.get('layout'))
const iterate = self.module.exports

const PER_NODE = 10
const PER_EDGE = 3
const BETWEEN = 50
const MOST_ASIDE = 0.4 // of the width, for those who talk to nobody

self.onmessage = ({ data }) => {
  const placed = data.fixed.some(Boolean) ? settled(data) : anew(data)
  apart(placed, data)
  self.postMessage({ job: data.job, x: placed.x, y: placed.y })
}

// All of it: whoever talks in the middle, and at the side, in columns, those of whom nothing is known to talk.
function anew(data) {
  const talking = new Set(data.edges.flatMap(([from, to]) => [from, to]))
  const all = [...data.x.keys()]
  const inside = all.filter((at) => talking.has(at))
  const alone = all.filter((at) => !talking.has(at)).sort((one, other) => data.label[one].localeCompare(data.label[other], 'en', { numeric: true }))
  const [wide, high] = data.box
  const placed = { x: new Float32Array(all.length), y: new Float32Array(all.length) }
  const side = aside(alone, data, inside.length ? wide * MOST_ASIDE : wide)
  if (inside.length) {
    const index = new Map(inside.map((at, place) => [at, place]))
    const pick = (values) => inside.map((at) => values[at])
    const core = settled({
      ...data, x: pick(data.x), y: pick(data.y), size: pick(data.size), fixed: pick(data.fixed),
      edges: data.edges.map(([from, to, weight]) => [index.get(from), index.get(to), weight]),
    })
    fit(core, [side.width ? Math.max(wide - side.width - BETWEEN, 200) : wide, high])
    inside.forEach((at, place) => {
      placed.x[at] = core.x[place] - (side.width && (side.width + BETWEEN) / 2)
      placed.y[at] = core.y[place]
    })
  }
  alone.forEach((at, place) => {
    placed.x[at] = (inside.length ? wide / 2 - side.width : -side.width / 2) + side.x[place]
    placed.y[at] = side.y[place]
  })
  return placed
}

// Columns as high as the canvas, from the left; squeezed where there are many.
function aside(alone, { width, height, box: [, high] }, room) {
  if (!alone.length) return { width: 0, x: [], y: [] }
  const cell = Math.max(...alone.map((at) => width[at]))
  const row = Math.max(...alone.map((at) => height[at]))
  const rows = Math.max(Math.floor(high / row), Math.ceil(alone.length / Math.max(Math.floor(room / cell), 1)))
  const columns = Math.ceil(alone.length / rows)
  const used = Math.ceil(alone.length / columns)
  return {
    width: columns * cell,
    x: alone.map((_, place) => (Math.floor(place / used) + 0.5) * cell),
    y: alone.map((_, place) => ((used - 1) / 2 - (place % used)) * row),
  }
}

function settled({ x, y, size, fixed, edges, rounds, spread }) {
  const count = x.length
  const nodes = new Float32Array(count * PER_NODE)
  for (let at = 0; at < count; at++) {
    nodes.set([x[at], y[at], 0, 0, 0, 0, 1, 1, size[at], fixed[at] ? 1 : 0], at * PER_NODE)
  }
  const links = new Float32Array(edges.length * PER_EDGE)
  edges.forEach(([from, to, weight], at) => {
    links.set([from * PER_NODE, to * PER_NODE, weight], at * PER_EDGE)
    nodes[from * PER_NODE + 6] += weight
    nodes[to * PER_NODE + 6] += weight
  })
  const settings = {
    linLogMode: false, outboundAttractionDistribution: false, adjustSizes: false, edgeWeightInfluence: 1,
    scalingRatio: spread, strongGravityMode: true, gravity: 0.05, slowDown: 2,
    barnesHutOptimize: count > 300, barnesHutTheta: 0.7,
  }
  for (let round = 0; round < rounds; round++) iterate(settings, nodes, links)
  const placed = { x: new Float32Array(count), y: new Float32Array(count) }
  for (let at = 0; at < count; at++) {
    placed.x[at] = nodes[at * PER_NODE]
    placed.y[at] = nodes[at * PER_NODE + 1]
  }
  return placed
}

// What is drawn around a node (its mark, its label below it) should not lie on another's.
function apart(placed, { width, height, fixed }) {
  const count = placed.x.length
  const rounds = count > 250 ? 12 : 120
  for (let round = 0; round < rounds; round++) {
    let moved = false
    for (let one = 0; one < count; one++) {
      for (let other = one + 1; other < count; other++) {
        const wide = (width[one] + width[other]) / 2
        const high = (height[one] + height[other]) / 2
        const dx = placed.x[other] - placed.x[one]
        const dy = placed.y[other] - placed.y[one]
        const overX = wide - Math.abs(dx)
        const overY = high - Math.abs(dy)
        if (overX <= 0 || overY <= 0) continue
        moved = true
        const sideways = overX * high < overY * wide
        const push = (sideways ? overX : overY) / 2 + 0.5
        const sign = (sideways ? dx : dy) < 0 ? -1 : 1
        const axis = sideways ? placed.x : placed.y
        if (!fixed[one]) axis[one] -= sign * push
        if (!fixed[other]) axis[other] += sign * push
      }
    }
    if (!moved) break
  }
}

// Into the box of the canvas, wide as it is: both axes by their own measure, as far as that does not squeeze.
function fit(placed, [wide, high]) {
  for (const [axis, room] of [['x', wide], ['y', high]]) {
    const values = placed[axis]
    let low = Infinity
    let top = -Infinity
    for (const each of values) { low = Math.min(low, each); top = Math.max(top, each) }
    const factor = top > low ? room / (top - low) : 0
    for (let at = 0; at < values.length; at++) values[at] = (values[at] - (low + top) / 2) * factor
  }
}
