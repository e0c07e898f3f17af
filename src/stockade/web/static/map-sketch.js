// The first frame of the map, drawn plainly and at once: what WebGL will draw, where it will draw it, while its
// programs are still being made. Pure but for the canvas: the same graph and size give the same picture.
'use strict'

window.stockadeSketch = (() => {
  const PADDING = 60 // as the renderer's stage
  const BEND = 0.16

  // From places in the graph to pixels, as the renderer's first view has it.
  function view(graph, wide, high) {
    const all = graph.mapNodes((_, { x, y }) => [x, y])
    const span = (axis) => [Math.min(...all.map((each) => each[axis])), Math.max(...all.map((each) => each[axis]))]
    const [[left, right], [low, top]] = [span(0), span(1)]
    const ratio = Math.max(right - left, top - low) || 1
    const [flat, shape] = [high / wide, (top - low || 1) / (right - left || 1)]
    const across = (flat < 1 && shape > 1) || (flat > 1 && shape < 1)
    const fits = across ? 1 : Math.min(Math.max(shape, 1 / shape), Math.max(1 / flat, flat))
    const scale = ((Math.min(wide, high) - 2 * PADDING) * fits) / ratio
    return ({ x, y }) => [wide / 2 + (x - (left + right) / 2) * scale, high / 2 - (y - (low + top) / 2) * scale]
  }

  function draw(graph, stage, colour, curved) {
    const [wide, high] = [stage.clientWidth, stage.clientHeight]
    const canvas = Object.assign(document.createElement('canvas'), { className: 'map-sketch' })
    const fine = window.devicePixelRatio || 1
    canvas.width = wide * fine
    canvas.height = high * fine
    const pen = canvas.getContext('2d')
    pen.scale(fine, fine)
    if (graph.order) {
      const at = view(graph, wide, high)
      const ends = new Map(graph.mapNodes((id, each) => [id, { spot: at(each), size: each.size }]))
      const edges = graph.mapEdges((_, each, source, target) => ({ ...each, source, target })).filter((each) => !each.hidden)
      edges.sort((one, other) => one.zIndex - other.zIndex)
      for (const each of edges) edge(pen, each, ends, curved && graph.hasEdge(each.target, each.source))
      graph.forEachNode((id, each) => node(pen, each, ends.get(id).spot))
      names(pen, graph, ends, colour)
    }
    stage.append(canvas)
    return canvas
  }

  function edge(pen, { source, target, size, color, dash, gap, head, strand }, ends, bent) {
    const [one, other] = [ends.get(source), ends.get(target)]
    pen.globalAlpha = strand === 'observed' ? 0.95 : 0.8
    pen.strokeStyle = pen.fillStyle = color
    pen.lineWidth = size
    pen.setLineDash(gap > 1 ? [dash, gap] : [])
    pen.beginPath()
    if (source === target) {
      pen.arc(one.spot[0] + one.size, one.spot[1] - one.size, one.size, 0, 2 * Math.PI)
      pen.stroke()
      return
    }
    const [dx, dy] = [other.spot[0] - one.spot[0], other.spot[1] - one.spot[1]]
    const far = Math.hypot(dx, dy) || 1
    const by = bent ? 2 * BEND : 0
    const middle = [(one.spot[0] + other.spot[0]) / 2 - dy * by, (one.spot[1] + other.spot[1]) / 2 + dx * by]
    const last = [other.spot[0] - middle[0], other.spot[1] - middle[1]]
    const long = Math.hypot(...last) || 1
    const way = [last[0] / long, last[1] / long]
    const back = Math.min(other.size + 2, far / 2)
    const tip = [other.spot[0] - way[0] * back, other.spot[1] - way[1] * back]
    pen.moveTo(...one.spot)
    bent ? pen.quadraticCurveTo(...middle, ...tip) : pen.lineTo(...tip)
    pen.stroke()
    pen.setLineDash([])
    HEADS[head]?.(pen, tip, way, size)
  }

  const shape = (pen, [x, y], [ux, uy], corners) => {
    pen.beginPath()
    for (const [along, aside] of corners) pen.lineTo(x - ux * along - uy * aside, y - uy * along + ux * aside)
    pen.fill()
  }
  const HEADS = {
    arrow: (pen, tip, way, size) => shape(pen, tip, way, [[0, 0], [4.2 * size, 1.7 * size], [4.2 * size, -1.7 * size]]),
    bar: (pen, tip, way, size) => shape(pen, tip, way, [[3, 2.5 * size], [3 + size, 2.5 * size], [3 + size, -2.5 * size], [3, -2.5 * size]]),
    diamond: (pen, tip, way, size) => shape(pen, tip, way, [[0, 0], [2 * size, 1.6 * size], [4 * size, 0], [2 * size, -1.6 * size]]),
    circle: (pen, [x, y], [ux, uy], size) => {
      pen.beginPath()
      pen.arc(x - 1.5 * size * ux, y - 1.5 * size * uy, 1.5 * size, 0, 2 * Math.PI)
      pen.fill()
    },
  }

  function node(pen, { size, color, shape: form }, [x, y]) {
    pen.globalAlpha = 1
    pen.fillStyle = color
    pen.beginPath()
    if (form === 'square') pen.rect(x - size, y - size, 2 * size, 2 * size)
    else if (form === 'diamond') [[0, -size], [size, 0], [0, size], [-size, 0]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy))
    else pen.arc(x, y, size, 0, 2 * Math.PI)
    pen.fill()
  }

  // The names of the largest first; one that would cover another is left out.
  function names(pen, graph, ends, colour) {
    pen.font = '12px system-ui, sans-serif'
    pen.textAlign = 'center'
    pen.textBaseline = 'top'
    const taken = []
    const every = graph.mapNodes((id, each) => ({ ...each, spot: ends.get(id).spot })).sort((one, other) => other.size - one.size)
    for (const { label, labelColor, size, spot: [x, y] } of every) {
      const half = pen.measureText(label).width / 2 + 3
      const box = [x - half, y + size + 3, x + half, y + size + 21]
      if (taken.some((each) => each[0] < box[2] && box[0] < each[2] && each[1] < box[3] && box[1] < each[3])) continue
      taken.push(box)
      pen.fillStyle = colour.paper
      pen.fillRect(box[0], box[1], 2 * half, 18)
      pen.fillStyle = labelColor
      pen.fillText(label, x, y + size + 6)
    }
  }

  return { draw, view }
})()
