// What the page behind a link calls with its token.
const calls = {
  'verify-email': { path: '/auth/verify-email', label: 'Confirm the address' },
  'reset-password': { path: '/auth/reset-password', label: 'Set the password', password: true },
  'magic-link': { path: '/auth/magic-link/verify', label: 'Sign in' }
}
const make = (name, text) => { const e = document.createElement(name); e.textContent = text ?? ''; return e }
function action(link) {
  const address = new URL(link)
  const call = calls[address.pathname.split('/').pop()]
  const token = address.searchParams.get('token')
  if (!call || !token) return null
  const form = make('p'), go = make('button', call.label), said = make('pre')
  const password = call.password ? make('input') : null
  if (password) { password.type = 'password'; password.placeholder = 'new password'; password.autocomplete = 'new-password'; form.append(password) }
  go.addEventListener('click', async () => {
    const answer = await fetch('/api/v1' + call.path, {
      method: 'POST', headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ token, ...(password && { password: password.value }) })
    })
    const text = await answer.text()
    said.textContent = answer.status === 204 ? 'Done.' : text
  })
  form.append(go, said)
  return form
}
const box = document.getElementById('mails')
let shown = ''
async function show() {
  const text = await (await fetch('/dev/mail.json')).text()
  if (text === shown) return
  shown = text
  const { mails } = JSON.parse(text)
  box.replaceChildren(...mails.map(m => {
    const entry = make('article')
    entry.append(make('h2', m.subject), make('small', `to ${m.to}, ${new Date(m.at).toLocaleString()}`), make('pre', m.text))
    entry.append(...m.links.map(action).filter(Boolean))
    return entry
  }))
  if (!mails.length) box.replaceChildren(make('p', 'No mail yet.'))
}
show()
setInterval(show, 2000)
