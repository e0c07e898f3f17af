// What a page needs besides htmx: keys, copying, line numbers, and looking again when something has changed.
// Every page works without it. It makes no markup of texts: what it shows, the server has escaped.
'use strict'

const live = () => document.getElementById('live')
const typing = (element) => element && element.matches('input, textarea, select')

// --- looking again ---

const refresher = {
  source: null,
  wanted: false,
  looking: false,
  flows: '',

  follow() {
    const wanted = !document.hidden && typeof window.htmx !== 'undefined'
    const flows = live().dataset.flows ?? ''
    if (this.source && flows !== this.flows) this.leave()
    if (wanted && !this.source) {
      this.flows = flows
      this.source = new EventSource(flows ? '/live?flows=1' : '/live')
      this.source.addEventListener('changed', (event) => {
        if (event.lastEventId !== live().dataset.rung) this.again()
        document.dispatchEvent(new CustomEvent('stockade:changed', { detail: event.lastEventId }))
      })
    } else if (!wanted && this.source) {
      this.leave() // a browser keeps few connections to one host, and nobody sees this page
    }
  },

  leave() {
    this.source.close()
    this.source = null
  },

  // What somebody writes, reads at length or has marked is not taken from under them.
  busy() {
    const written = [...live().querySelectorAll('input, textarea')].some((each) =>
      each.type === 'checkbox' || each.type === 'radio' ? each.checked !== each.defaultChecked
        : each.type !== 'hidden' && each.value !== each.defaultValue)
    const marked = !window.getSelection().isCollapsed
    return Boolean(live().dataset.still) || written || marked || typing(document.activeElement) && live().contains(document.activeElement)
  },

  again() {
    this.wanted = this.busy()
    if (this.wanted) return
    this.looking = true
    window.htmx.ajax('GET', location.pathname + location.search, {
      source: '#again', target: '#live', select: '#live', swap: 'outerHTML show:none',
    })
  },
}

document.addEventListener('visibilitychange', () => refresher.follow())
document.addEventListener('focusout', () => refresher.wanted && setTimeout(() => refresher.wanted && refresher.again(), 0))

// --- what a replacement would lose ---

let opened = []
let scrolled = []
const scrolling = () => [...document.querySelectorAll('.drawer, .scroll')]
document.addEventListener('htmx:beforeSwap', () => {
  opened = [...document.querySelectorAll('details[open][id]')].map((each) => each.id)
  scrolled = refresher.looking ? scrolling().map((each) => [each.scrollTop, each.scrollLeft]) : []
})
document.addEventListener('htmx:afterSwap', () => {
  opened.forEach((id) => document.getElementById(id)?.setAttribute('open', ''))
  if (document.querySelector('[data-alone]') && !window.stockadeAlone) return location.reload() // it has scripts of its own
  scrolling().forEach((each, at) => { if (scrolled[at]) [each.scrollTop, each.scrollLeft] = scrolled[at] })
  furnish()
  refresher.follow()
})

// --- where the eye goes: to what went wrong, to what was asked for, to the top of another page ---

let path = location.pathname
document.addEventListener('htmx:afterSettle', () => {
  if (refresher.looking) {
    refresher.looking = false
    return
  }
  const wanted = document.querySelector('#live [role="alert"], #live #plan')
  if (wanted) wanted.scrollIntoView({ block: 'start' })
  else if (path !== location.pathname) window.scrollTo(0, 0)
  path = location.pathname
  if (document.activeElement === document.body) live().focus({ preventScroll: true })
})

// --- keys ---

let after = ''
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return
  if (event.key === 'Escape') {
    if (typing(document.activeElement)) document.activeElement.blur()
    else document.getElementById('close-drawer')?.click()
    return
  }
  if (typing(document.activeElement)) return
  const led = after
  after = ''
  if (led === 'g') {
    const page = [...document.querySelectorAll('.rail a')].find((each) => each.dataset.key === event.key)
    if (page) page.click()
  } else if (event.key === 'g') {
    after = 'g'
  } else if (event.key === '/') {
    document.getElementById('search')?.select()
  } else if (event.key === '?') {
    document.getElementById('keys')?.showModal()
  } else if (event.key === 'j' || event.key === 'k') {
    step(event.key === 'j' ? 1 : -1)
  } else return
  event.preventDefault()
})

function step(by) {
  const rows = [...document.querySelectorAll('a.row')]
  const at = rows.indexOf(document.activeElement)
  rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus()
}

// --- copying, line numbers, going to a mistake ---

document.addEventListener('click', (event) => {
  const copy = event.target.closest('button.copy')
  if (copy) {
    navigator.clipboard.writeText(copy.dataset.copy).then(() => {
      const before = copy.firstChild.textContent
      copy.firstChild.textContent = 'Copied'
      setTimeout(() => { copy.firstChild.textContent = before }, 1500)
    })
  }
  const mistake = event.target.closest('a[data-line]')
  const editor = mistake && document.getElementById(decodeURIComponent(mistake.hash.slice(1)))
  if (editor) {
    event.preventDefault()
    const lines = editor.value.split('\n')
    const start = lines.slice(0, mistake.dataset.line - 1).reduce((sum, each) => sum + each.length + 1, 0)
    editor.focus()
    editor.setSelectionRange(start, start + (lines[mistake.dataset.line - 1] ?? '').length)
  }
})

document.addEventListener('input', (event) => {
  if (event.target.matches('.editor textarea')) number(event.target)
})

function number(editor) {
  const lines = editor.value.split('\n').length
  editor.rows = Math.max(lines, 4)
  editor.previousElementSibling.textContent = Array.from({ length: lines }, (_, at) => at + 1).join('\n') + '\n'
}

function furnish() {
  document.querySelectorAll('button.copy').forEach((each) => { each.hidden = !navigator.clipboard })
}

document.addEventListener('DOMContentLoaded', () => { furnish(); refresher.follow() })
