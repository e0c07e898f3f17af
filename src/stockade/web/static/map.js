// The map: draws what the page holds, follows what happens, and opens what is selected. The table beneath says the same.
// Nothing moves unless it means something: what is on the map stays where it is, and what is new enters near its own.
'use strict'

;(() => {
  const root = document.getElementById('map')
  window.stockadeAlone = true
  if (!root || !root.dataset.graph) return

  const MANY = 300
  const SPARE = 300 // edges that are gone and kept
  const look = window.stockadeMap
  const stage = document.getElementById('map-canvas')
  const table = document.getElementById('map-table')
  const query = (more) => {
    const given = new URLSearchParams(location.search)
    for (const [name, value] of Object.entries(more)) value === null || value === '' ? given.delete(name) : given.set(name, value)
    return given.toString()
  }
  const rows = window.stockadeTable(table, look, query)
  const still = window.matchMedia('(prefers-reduced-motion: reduce)')
  const said = (text) => { document.getElementById('map-said').textContent = text }

  let reply = JSON.parse(root.dataset.graph)
  const keyed = (answer) => [
    new Map(answer.nodes.map((each) => [each.id, each])),
    new Map(answer.edges.map((each) => [`${each.source}~${each.destination}`, each])),
  ]
  let [nodes, edges] = keyed(reply)
  if (!window.graphology || !document.createElement('canvas').getContext('webgl2')) return rows.fill(nodes, edges)
  let colour = look.colours()
  let selected = null // {node: id} or {edge: 'id~id'}
  let drawn = null
  root.removeAttribute('data-graph')

  const graph = new graphology.MultiDirectedGraph()
  root.hidden = false
  const box = () => [Math.max(stage.clientWidth - 140, 200), Math.max(stage.clientHeight - 110, 160)]

  // --- where things are: kept for the session, by zoom ---

  const tenth = (number) => Math.round(number * 10) / 10
  const shelf = () => `stockade:map:${reply.by.join(',')}`
  const places = new Map()
  const recall = () => {
    places.clear()
    try { Object.entries(JSON.parse(sessionStorage.getItem(shelf()) || '{}')).forEach(([id, at]) => places.set(id, at)) } catch { /* none kept */ }
  }
  const keep = () => {
    graph.forEachNode((id, { x, y }) => places.set(id, [tenth(x), tenth(y)]))
    try { sessionStorage.setItem(shelf(), JSON.stringify(Object.fromEntries([...places].slice(-4000)))) } catch { /* no room */ }
  }

  let worker = null // made when something is to be laid out: what was seen before stands where it stood
  let job = 0
  const waiting = new Map()
  function laying() {
    if (!worker) {
      worker = new Worker(`${root.dataset.worker}?layout=${encodeURIComponent(root.dataset.layout)}`)
      worker.onmessage = ({ data }) => { waiting.get(data.job)?.(data); waiting.delete(data.job) }
    }
    return worker
  }
  const measure = document.createElement('canvas').getContext('2d')
  measure.font = '12px system-ui, sans-serif'

  // Place those that are new; the others stay. Among none placed yet, all are.
  async function place(fresh) {
    const ids = graph.nodes().sort()
    if (!fresh.length || !ids.length) return
    const isNew = new Set(fresh)
    const all = isNew.size === ids.length
    const index = new Map(ids.map((id, at) => [id, at]))
    const attributes = ids.map((id) => graph.getNodeAttributes(id))
    const links = new Map()
    graph.forEachEdge((_, { strand, gone }, source, target) => {
      if (source === target || gone) return
      const key = [source, target].sort().join('~')
      links.set(key, [index.get(source), index.get(target), strand === 'observed' ? 1 : Math.max(links.get(key)?.[2] ?? 0, 0.25)])
    })
    const asked = {
      job: ++job, box: box(), rounds: all ? (ids.length > 400 ? 90 : 260) : 60, spread: 90,
      x: attributes.map((each) => each.x), y: attributes.map((each) => each.y), size: attributes.map((each) => each.size),
      label: attributes.map((each) => each.label),
      width: attributes.map((each) => Math.max(measure.measureText(each.label).width + 18, each.size * 2 + 14)),
      height: attributes.map((each) => each.size * 2 + 34),
      fixed: ids.map((id) => !isNew.has(id)), edges: [...links.keys()].sort().map((key) => links.get(key)),
    }
    const laid = await new Promise((done) => { waiting.set(asked.job, done); laying().postMessage(asked) })
    ids.forEach((id, at) => {
      if (isNew.has(id) && graph.hasNode(id)) graph.mergeNodeAttributes(id, { x: tenth(laid.x[at]), y: tenth(laid.y[at]) })
    })
    keep()
  }

  // --- from a reply to the graph: only what changed is touched ---

  function take(next) {
    reply = next
    ;[nodes, edges] = keyed(reply)
    drop(graph.nodes().filter((id) => !nodes.has(id)), (id) => graph.dropNode(id))
    const fresh = []
    const warm = hot()
    const called = look.names(reply.nodes)
    for (const [id, node] of nodes) {
      const wanted = look.nodeLook(node, called.get(id), colour)
      if (graph.hasNode(id)) { touch('Node', id, wanted); continue }
      const at = places.get(id)
      if (!at) fresh.push(id)
      const [x, y] = at ?? look.begin(id, box())
      graph.addNode(id, { x, y, ...wanted, ...nodeState(id, warm) })
    }
    const wanted = new Map()
    for (const edge of edges.values()) for (const [key, attributes] of look.strands(edge, colour)) wanted.set(key, [edge, attributes])
    retire(graph.edges().filter((key) => !wanted.has(key)))
    for (const [key, [edge, attributes]] of wanted) {
      if (graph.hasEdge(key)) touch('Edge', key, { ...attributes, gone: false, hidden: hidden(attributes) })
      else graph.addEdgeWithKey(key, edge.source, edge.destination, { ...attributes, ...edgeState(attributes, edge.source, edge.destination, warm) })
    }
    for (const id of fresh) near(id, fresh)
    if (drawn && graph.order && drawn.getSetting('autoRescale') === true) drawn.setSetting('autoRescale', 'once')
    tell()
    return fresh
  }

  // An edge that goes is hidden first, and many go at once.
  function retire(keys) {
    if (!drawn || keys.length > SPARE) drop(keys, (key) => graph.dropEdge(key))
    else keys.forEach((key) => touch('Edge', key, { gone: true, hidden: true }))
  }

  // For every node and edge that goes Sigma reads the whole graph anew. While they go there is nothing to read.
  function drop(keys, one) {
    if (!keys.length) return
    if (!drawn) return keys.forEach(one)
    graph.forEachNode = graph.forEachEdge = () => {}
    try { keys.forEach(one) } finally {
      delete graph.forEachNode
      delete graph.forEachEdge
    }
    drawn.refresh({ schedule: true })
  }

  // Whom a node has an edge with.
  const beside = (id) => [...new Set(graph.filterEdges(id, (_, { gone }) => !gone).map((key) => graph.opposite(id, key)))]

  function touch(what, id, wanted) {
    const now = graph[`get${what}Attributes`](id)
    const changed = Object.keys(wanted).filter((name) => now[name] !== wanted[name])
    if (changed.length) graph[`merge${what}Attributes`](id, Object.fromEntries(changed.map((name) => [name, wanted[name]])))
  }

  // What is new enters beside whom it talks to.
  function near(id, fresh) {
    const settled = beside(id).filter((each) => !fresh.includes(each))
    if (!settled.length) return
    const [dx, dy] = look.begin(id, [120, 120])
    const mean = (axis) => settled.reduce((sum, each) => sum + graph.getNodeAttribute(each, axis), 0) / settled.length
    graph.mergeNodeAttributes(id, { x: mean('x') + dx, y: mean('y') + dy })
  }

  function tell() {
    const count = {}
    graph.forEachEdge((_, { strand, show, gone }) => {
      if (gone) return
      const kind = strand === 'observed' ? show : strand === show ? strand : null
      if (kind) count[kind] = (count[kind] || 0) + 1
    })
    root.querySelectorAll('[data-count]').forEach((each) => { each.textContent = count[each.dataset.count] || 0 })
    const words = (number, one, many) => `${number.toLocaleString('en')} ${number === 1 ? one : many}`
    document.getElementById('map-sum').textContent =
      `${words(nodes.size, 'node', 'nodes')}, ${words(edges.size, 'edge', 'edges')}` +
      (reply.total ? `; ${words(reply.total.connections, 'connection', 'connections')}${reply.total.denied ? `, ${reply.total.denied.toLocaleString('en')} denied` : ''}` : '')
    suggest([...nodes.values()].slice(0, 500).map((each) => each.text))
    document.getElementById('map-notes').replaceChildren(...reply.notes.map((text) => Object.assign(document.createElement('p'), { className: 'notice', textContent: `? ${text}` })))
    filling()
    stage.dataset.shapes = nodes.size + edges.size
  }

  let suggested = ''
  function suggest(texts) {
    if (suggested === (suggested = texts.join('\n'))) return
    document.getElementById('map-names').replaceChildren(...texts.map((value) => Object.assign(document.createElement('option'), { value })))
  }

  // --- what is shown ---

  const off = new Set()
  const hidden = ({ strand, show }) => off.has(strand === 'observed' ? show : strand) || (strand === 'permitted' && off.has(show))

  // What the filter and the selection make of one node or edge.
  const nodeState = (id, hot) => ({ dim: hot.size > 0 && !hot.has(id), chosen: id === selected?.node })
  const edgeState = (each, source, target, hot) => {
    const chosen = Boolean(selected) && (selected.edge === each.edge || source === selected.node || target === selected.node)
    return { hidden: Boolean(each.gone) || hidden(each), dim: hot.size > 0 && !chosen, chosen }
  }

  function hot() {
    const found = new Set(selected?.edge?.split('~'))
    if (selected?.node && graph.hasNode(selected.node)) [selected.node, ...beside(selected.node)].forEach((each) => found.add(each))
    return found
  }

  function restyle() {
    const warm = hot()
    graph.forEachNode((id) => touch('Node', id, nodeState(id, warm)))
    graph.forEachEdge((key, each, source, target) => touch('Edge', key, edgeState(each, source, target, warm)))
  }

  function draw() {
    const { sdfCircle, sdfSquare, sdfDiamond, pathLine, pathCurved, pathLoop, layerDashed, layerPlain, extremityArrow, extremityBar, extremityDiamond, extremityCircle } = Sigma.rendering
    // Many edges are drawn plainly: straight, and named when they are pointed at. Software draws no faster.
    const many = graph.size > MANY
    const dashes = graph.someEdge((_, { strand }) => strand === 'needed')
    const renderer = new Sigma(graph, stage, {
      primitives: {
        nodes: { shapes: [sdfCircle(), sdfSquare({ cornerRadius: 0.2 }), sdfDiamond()], label: { margin: 5 } },
        edges: {
          variables: { dash: { type: 'number', default: 6 }, gap: { type: 'number', default: 1 } },
          paths: many ? [pathLine(), pathLoop()] : [pathLine(), pathCurved({ curvature: 0.16, segments: 12 }), pathLoop()],
          extremities: [
            extremityArrow({ lengthRatio: 4.2, widthRatio: 3.4, margin: 2 }), extremityBar({ lengthRatio: 1, widthRatio: 5, margin: 5 }),
            extremityDiamond({ lengthRatio: 4, widthRatio: 3.2, margin: 2 }), extremityCircle({ lengthRatio: 3, widthRatio: 3, margin: 2 }),
          ],
          layers: [!dashes ? layerPlain() : layerDashed({ dashSize: { attribute: 'dash', default: 6 }, gapSize: { attribute: 'gap', default: 1 } })],
          label: { margin: 3 },
        },
      },
      styles: {
        nodes: {
          x: { attribute: 'x' }, y: { attribute: 'y' }, label: { attribute: 'label' }, color: { attribute: 'color' }, shape: { attribute: 'shape' },
          size: (each) => each.size + (each.chosen ? 3 : 0),
          opacity: (each) => (each.dim ? 0.25 : 1),
          labelColor: { attribute: 'labelColor' }, labelSize: 12, labelFont: 'system-ui, sans-serif', labelPosition: 'below',
          labelVisibility: (each, state) => (state.isHovered || each.chosen ? 'visible' : each.dim ? 'hidden' : 'auto'),
          labelBackgroundColor: () => colour.paper, labelBackgroundPadding: 2,
          depth: (each, state) => (state.isHovered || each.chosen ? 'topNodes' : 'nodes'),
          backdropVisibility: 'hidden', cursor: 'pointer',
        },
        edges: {
          size: (each) => each.size + (each.chosen ? 1 : 0), color: { attribute: 'color' }, dash: { attribute: 'dash' }, gap: { attribute: 'gap' }, head: { attribute: 'head' },
          path: 'straight', parallelPath: many ? 'straight' : 'curved', selfLoopPath: 'loop', parallelSpread: 0.22,
          opacity: (each) => (each.dim ? 0.18 : each.strand === 'observed' ? 0.95 : 0.8),
          visibility: (each) => (each.hidden ? 'hidden' : 'visible'),
          depth: (each, state) => (each.chosen || state.isHovered || each.urgent ? 'topEdges' : 'edges'),
          zIndex: { attribute: 'zIndex' },
          label: (each, state) => (many && !each.chosen && !state.isHovered ? '' : each.label), labelColor: { attribute: 'labelColor' }, labelSize: 11, labelFont: 'system-ui, sans-serif',
          labelVisibility: (each, state) => (each.hidden || each.dim || !each.label ? 'hidden' : (each.urgent && !many) || each.chosen || state.isHovered ? 'visible' : graph.size <= 24 ? 'auto' : 'hidden'),
          labelBackgroundColor: () => colour.paper, labelBackgroundPadding: 2, labelPosition: 'over', cursor: 'pointer',
        },
      },
      settings: {
        itemSizesReference: 'screen', renderEdgeLabels: true, enableEdgeEvents: true, edgePickingPadding: 6, nodePickingPadding: 4,
        edgeLabelAnchors: 'allNodes', nodeLabelEvents: 'extend', edgeLabelEvents: 'extend',
        labelDensity: 2, labelGridCellSize: 70, labelRenderedSizeThreshold: 4, stagePadding: 60, minEdgeThickness: 1,
        enableCameraRotation: false, enableCameraMouseRotation: false, zoomDuration: still.matches ? 0 : 180, inertiaDuration: still.matches ? 0 : 150,
        doubleClickZoomingDuration: 0, minCameraRatio: 0.05, maxCameraRatio: 3, autoRescale: graph.order ? 'once' : true, allowInvalidContainer: true,
      },
    })
    new ResizeObserver(() => renderer.resize().scheduleRender()).observe(stage) // a drawer opens beside it
    renderer.on('clickNode', ({ node }) => choose({ node }, true))
    renderer.on('clickEdge', ({ edge }) => choose({ edge: graph.getEdgeAttribute(edge, 'edge') }, true))
    renderer.on('clickStage', () => close())
    renderer.on('doubleClickNode', (event) => { event.preventSigmaDefault(); inside(event.node) })
    return renderer
  }

  // --- selecting and opening ---

  const address = (more) => {
    const asked = query(more)
    return asked ? `/map?${asked}` : '/map'
  }

  function choose(what, open) {
    selected = what
    restyle()
    said(spoken(what))
    if (open) show(what)
  }

  function spoken(what) {
    if (what?.node) {
      const it = nodes.get(what.node)
      const out = [...edges.values()].filter((each) => each.source === what.node && each.observed)
      const denied = out.filter((each) => look.kind(each) === 'denied').length
      return it ? `${it.text}, ${it.workloads} workloads, talks to ${out.length}${denied ? `, ${denied} denied` : ''}` : ''
    }
    const it = what && edges.get(what.edge)
    if (!it) return ''
    const seen = it.observed ? `${it.observed.verdict}, ${it.observed.seen.connections} connections` : 'permitted, not seen'
    return `${nodes.get(it.source).text} to ${nodes.get(it.destination).text}: ${seen}`
  }

  function show(what) {
    const more = { edge: what.edge ?? null, node: what.node ?? null }
    history.replaceState(history.state, '', address(more))
    window.htmx?.ajax('GET', `/map/beside?${query(more)}`, { target: '#beside', swap: 'innerHTML' })
  }

  function close() {
    if (!selected && !document.getElementById('drawer')) return
    selected = null
    restyle()
    said('closed')
    document.getElementById('beside').replaceChildren()
    history.replaceState(history.state, '', address({ edge: null, node: null }))
  }

  // One level further in, within a node.
  function inside(id) {
    const node = nodes.get(id)
    const ladder = [...document.querySelectorAll('.level')].map((each) => each.textContent)
    const deeper = ladder.find((each) => !reply.by.includes(each))
    if (node?.select && deeper) location.assign(`/map?${query({ by: [...reply.by, deeper].join(','), select: node.select, node: null, edge: null })}`)
  }

  document.addEventListener('click', (event) => {
    if (event.target.closest('#close-drawer') && event.target.closest('#beside')) { event.preventDefault(); close(); stage.focus() }
    const row = event.target.closest('#map-table a.row')
    const key = row?.closest('tr')?.dataset.edge
    if (key && drawn) { event.preventDefault(); choose({ edge: key }, true) }
  })

  // --- keys ---

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }
  stage.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (ARROWS[event.key]) step(ARROWS[event.key])
    else if (event.key === 'Enter' && selected) {
      const open = new URLSearchParams(location.search)
      if (selected.node && open.get('node') === selected.node && document.getElementById('drawer')) inside(selected.node)
      else show(selected)
    } else if (event.key === 'Escape') close()
    else if (event.key === 'e' && selected) along()
    else if (event.key === '+' || event.key === '=') drawn?.getCamera().animatedZoom({ duration: still.matches ? 0 : 120 })
    else if (event.key === '-') drawn?.getCamera().animatedUnzoom({ duration: still.matches ? 0 : 120 })
    else return
    event.preventDefault()
    event.stopPropagation()
  })

  function step([dx, dy]) {
    const from = selected?.node ?? selected?.edge?.split('~')[0]
    if (!from || !graph.hasNode(from)) {
      const first = graph.nodes().sort((one, other) => graph.degree(other) - graph.degree(one) || (one < other ? -1 : 1))[0]
      if (first) choose({ node: first }, false)
      return
    }
    const at = graph.getNodeAttributes(from)
    const ahead = (ids) => ids.filter((id) => id !== from).map((id) => {
      const each = graph.getNodeAttributes(id)
      const [x, y] = [each.x - at.x, each.y - at.y]
      const along = x * dx + y * dy
      const across = Math.abs(x * dy) + Math.abs(y * dx)
      return [along > 0 && across <= along * 1.8 ? along + across * 2 : Infinity, id]
    }).filter(([far]) => far < Infinity).sort(([one], [other]) => one - other)
    const next = ahead(beside(from))[0] ?? ahead(graph.nodes())[0]
    if (next) choose({ node: next[1] }, false)
  }

  function along() {
    const from = selected.node ?? selected.edge.split('~')[0]
    const own = [...edges.keys()].filter((key) => key.split('~').includes(from)).sort()
    if (own.length) choose({ edge: own[(own.indexOf(selected.edge) + 1) % own.length] }, false)
  }

  // --- tools ---

  root.querySelectorAll('[data-show]').forEach((each) => each.addEventListener('change', () => {
    each.checked ? off.delete(each.dataset.show) : off.add(each.dataset.show)
    restyle()
  }))
  root.querySelectorAll('[data-view]').forEach((each) => each.addEventListener('click', () => {
    const camera = drawn?.getCamera()
    const how = { duration: still.matches ? 0 : 180 }
    ;({ in: () => camera?.animatedZoom(how), out: () => camera?.animatedUnzoom(how), all: () => camera?.animatedReset(how) })[each.dataset.view]()
  }))
  const find = document.getElementById('map-find')
  find.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return
    event.preventDefault()
    const text = find.value.trim().toLowerCase()
    const hit = text && ([...nodes.values()].find((each) => each.text.toLowerCase() === text) ?? [...nodes.values()].find((each) => each.text.toLowerCase().includes(text)))
    if (!hit) { said(`nothing on the map is called ${text}`); return }
    choose({ node: hit.id }, true)
    const at = drawn?.getNodeDisplayData(hit.id)
    if (at) drawn.getCamera().animate({ x: at.x, y: at.y, ratio: Math.min(drawn.getCamera().ratio, 0.6) }, { duration: still.matches ? 0 : 250 })
  })

  const swap = document.getElementById('map-switch')
  swap.hidden = false
  swap.addEventListener('click', () => aside(!root.classList.contains('shows-table')))
  function aside(open) {
    root.classList.toggle('shows-table', open)
    table.classList.toggle('sr', !open)
    swap.setAttribute('aria-expanded', String(open))
    swap.textContent = open ? 'Hide the table' : 'Show as a table'
    if (open) filling()
  }

  // The table's rows, from the same reply: at once where they are looked at, else when the picture is there, and then
  // now and then: to lay out what nobody sees takes a tenth of a second.
  const SELDOM = 10000
  let later = 0
  function filling() {
    if (root.classList.contains('shows-table')) fill()
    else if (stage.dataset.drawn && !later) later = setTimeout(fill, filled ? SELDOM : 50)
  }

  let filled = false
  function fill() {
    clearTimeout(later)
    later = 0
    filled = true
    rows.fill(nodes, edges)
  }

  // --- what happens meanwhile, and what was ---

  let asking = null
  let again = false
  let at = new URLSearchParams(location.search).get('at') || ''

  async function ask(more = {}) {
    asking?.abort()
    const mine = (asking = new AbortController())
    const next = await answered(`/map/data?${query({ at, edge: null, node: null, ...more })}`, mine.signal)
    if (asking !== mine) return // something later was asked meanwhile
    asking = null
    if (next?.error) said(next.error)
    else if (next) await place(take(next))
  }

  async function answered(path, signal) {
    try {
      const answer = await fetch(path, { signal, headers: { accept: 'application/json' } })
      if (!answer.redirected) return await answer.json()
      location.assign('/sign-in')
    } catch (problem) {
      if (problem.name !== 'AbortError') said('the server did not answer; the map is as it was')
    }
    return null
  }

  let known = document.getElementById('live').dataset.rung // what had happened before this page was made
  document.addEventListener('stockade:changed', ({ detail }) => {
    if (at || again || document.hidden || detail === known) return
    known = detail
    again = true
    setTimeout(async () => { await ask(); again = false }, 300)
  })

  const slider = document.getElementById('map-slider')
  const now = document.getElementById('map-now')
  let turning = 0
  slider.addEventListener('input', () => {
    const live = slider.value === slider.max
    const moment = Number(slider.dataset.since) + (86400 * slider.value) / slider.max
    at = live ? '' : String(Math.round(moment))
    now.textContent = live ? 'live' : `${new Date(moment * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`
    clearTimeout(turning)
    turning = setTimeout(() => {
      history.replaceState(history.state, '', address({ at }))
      document.getElementById('map-at').value = at && new Date(moment * 1000).toISOString().slice(0, 16)
      ask()
    }, 180)
  })
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { colour = look.colours(); take(reply) })

  // --- begin ---

  // After the frame that shows what was drawn; a page that nobody looks at has no frames.
  const shown = () => new Promise((done) => {
    if (document.hidden) return done()
    requestAnimationFrame(() => setTimeout(done))
  })

  // What draws with WebGL is large, and not needed before the first frame. Where it does not come, the table is there.
  const loaded = (path) => new Promise((done) => {
    document.head.append(Object.assign(document.createElement('script'), { src: path, onload: done, onerror: done }))
  })

  recall()
  table.classList.add('sr')
  aside(new URLSearchParams(location.search).get('view') === 'table')
  performance.mark('map-begin')
  const fresh = take(reply)
  performance.mark('map-taken')
  place(fresh).then(async () => {
    performance.mark('map-placed')
    // The picture is there at once; what makes it answer takes a processor without graphics seconds to prepare.
    const sketch = window.stockadeSketch.draw(graph, stage, colour, graph.size <= MANY)
    await shown()
    stage.dataset.shown = '1'
    performance.mark('map-shown')
    if (!window.Sigma) await loaded(root.dataset.renderer)
    if (!window.Sigma) return aside(true)
    drawn = draw()
    drawn.once('afterRender', () => {
      sketch.remove()
      stage.dataset.drawn = '1'
      performance.mark('map-drawn')
      filling()
    })
    const given = new URLSearchParams(location.search)
    if (given.get('edge') || given.get('node')) { selected = given.get('edge') ? { edge: given.get('edge') } : { node: given.get('node') }; restyle() }
    if (!root.dataset.full) ask()
  })
  window.stockadeMapView = { graph, renderer: () => drawn, reply: () => reply, choose, close, ask }
})()
