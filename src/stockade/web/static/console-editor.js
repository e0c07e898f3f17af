// Completion in the draft: Ctrl+Space shows what may stand at the cursor, arrows choose, Enter takes it, Esc leaves it.
// What is offered comes from the server; it is shown as text and never as markup.
'use strict'

const offers = {
  editor: null,
  list: null,
  told: null,
  found: [],
  length: 0,
  at: 0,
  asked: 0,

  async ask(editor, { quietly = false } = {}) {
    const before = editor.value.slice(0, editor.selectionStart).split('\n')
    const asked = ++this.asked
    const fields = { csrf: editor.form.elements.csrf.value, text: editor.value, line: before.length, column: [...before.at(-1)].length + 1 }
    const where = editor.selectionStart
    try {
      const reply = await fetch('/policies/complete', { method: 'POST', body: new URLSearchParams(fields) })
      if (!reply.ok) return this.close()
      const { length, candidates } = await reply.json()
      if (asked !== this.asked || editor.selectionStart !== where || document.activeElement !== editor) return
      this.open(editor, length, candidates, quietly)
    } catch {
      this.close()
    }
  },

  open(editor, length, candidates, quietly) {
    this.furnish()
    if (!candidates.length) {
      this.close()
      if (!quietly) this.told.textContent = 'Nothing to complete here'
      return
    }
    Object.assign(this, { editor, length, found: candidates, at: 0 })
    this.list.replaceChildren(...candidates.map((each, at) => this.option(each, at)))
    this.list.hidden = false
    this.list.scrollTop = 0
    this.place()
    editor.setAttribute('aria-controls', this.list.id)
    this.told.textContent = `${candidates.length} ${candidates.length === 1 ? 'completion' : 'completions'}`
    this.mark()
  },

  option(each, at) {
    const option = document.createElement('li')
    option.id = `offer-${at}`
    option.setAttribute('role', 'option')
    const about = document.createElement('span')
    about.className = 'quiet'
    about.textContent = each.about
    const text = document.createElement('span')
    text.textContent = each.text
    option.append(text, about)
    option.addEventListener('mousedown', (event) => {
      event.preventDefault()
      this.at = at
      this.take()
    })
    return option
  },

  furnish() {
    if (this.list?.isConnected) return
    this.list = Object.assign(document.createElement('ul'), { id: 'offers', className: 'offers', hidden: true })
    this.list.setAttribute('role', 'listbox')
    this.list.setAttribute('aria-label', 'Completions')
    this.told = Object.assign(document.createElement('p'), { className: 'sr' })
    this.told.setAttribute('role', 'status')
    document.body.append(this.list, this.told)
  },

  // Below the word, or above it where the window ends.
  place() {
    const style = getComputedStyle(this.editor)
    const pen = document.createElement('canvas').getContext('2d')
    pen.font = `${style.fontSize} ${style.fontFamily}`
    const before = this.editor.value.slice(0, this.editor.selectionStart - this.length).split('\n')
    const field = this.editor.getBoundingClientRect()
    const height = parseFloat(style.lineHeight)
    const top = field.top + parseFloat(style.paddingTop) + (before.length - 1) * height - this.editor.scrollTop
    const left = field.left + parseFloat(style.paddingLeft) + pen.measureText(before.at(-1)).width - this.editor.scrollLeft
    const own = this.list.getBoundingClientRect()
    const below = top + height + own.height < innerHeight
    const wanted = below ? top + height : top - own.height
    this.list.style.left = `${Math.max(8, Math.min(left, innerWidth - own.width - 8)) + scrollX}px`
    this.list.style.top = `${Math.max(0, Math.min(wanted, innerHeight - own.height)) + scrollY}px`
  },

  mark() {
    const options = [...this.list.children]
    options.forEach((each, at) => each.setAttribute('aria-selected', String(at === this.at)))
    options[this.at].scrollIntoView({ block: 'nearest' })
    this.editor.setAttribute('aria-activedescendant', options[this.at].id)
  },

  step(by) {
    this.at = (this.at + by + this.found.length) % this.found.length
    this.mark()
  },

  take() {
    const { editor, length } = this
    const chosen = this.found[this.at]
    const text = chosen.insert || chosen.text
    const end = editor.selectionStart
    this.close()
    editor.focus()
    editor.setSelectionRange(end - length, end)
    // The deprecated way is the only one that can be undone.
    if (!document.execCommand('insertText', false, text)) {
      editor.setRangeText(text, end - length, end, 'end')
      editor.dispatchEvent(new Event('input', { bubbles: true }))
    }
    if (/[ (/]$/.test(text)) this.ask(editor, { quietly: true })
  },

  close() {
    this.asked++
    if (!this.showing()) return
    this.list.hidden = true
    this.list.replaceChildren()
    this.told.textContent = ''
    this.editor.removeAttribute('aria-controls')
    this.editor.removeAttribute('aria-activedescendant')
  },

  showing() {
    return Boolean(this.list && !this.list.hidden)
  },
}

const editing = (element) => element instanceof HTMLTextAreaElement && element.matches('.editor textarea')

// Before the keys of the page: Escape closes the list, and not the field.
document.addEventListener('keydown', (event) => {
  if (!editing(event.target)) return
  if (event.key === ' ' && event.ctrlKey) offers.ask(event.target)
  else if (!offers.showing() || event.ctrlKey || event.metaKey || event.altKey) return
  else if (event.key === 'ArrowDown') offers.step(1)
  else if (event.key === 'ArrowUp') offers.step(-1)
  else if (event.key === 'Enter' || event.key === 'Tab') offers.take()
  else if (event.key === 'Escape') offers.close()
  else return
  event.preventDefault()
  event.stopImmediatePropagation()
}, true)

document.addEventListener('input', (event) => {
  if (editing(event.target) && offers.showing()) offers.ask(event.target, { quietly: true })
})
document.addEventListener('focusout', (event) => { if (editing(event.target)) offers.close() })
document.addEventListener('mousedown', (event) => { if (!event.target.closest('#offers')) offers.close() })
document.addEventListener('htmx:beforeSwap', () => offers.close())
