// Lays out the map, in a worker: ForceAtlas2 from a start that follows from each node's id, then labels moved apart.
// The same graph comes out the same. Nodes that are `fixed` stay where they are.
'use strict'

self.module = {}
importScripts(new URL(self.location.href).searchParams.get('layout'))
const iterate = self.module.exports

const PER_NODE = 10
const PER_EDGE = 3

self.onmessage = ({ data }) => {
  const placed = settled(data)
  apart(placed, data)
  self.postMessage({ job: data.job, x: placed.x, y: placed.y })
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
function apart(placed, { width, height, fixed, box }) {
  const count = placed.x.length
  if (!fixed.some(Boolean)) fit(placed, box)
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
