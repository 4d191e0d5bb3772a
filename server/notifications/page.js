const kinds = { productUpdates: 'product updates', billingReminders: 'billing reminders', weeklyDigest: 'the weekly summary' }
const say = document.getElementById('say')
const stop = document.getElementById('stop')
stop.addEventListener('click', async () => {
  stop.disabled = true
  try {
    const answer = await fetch('/api/v1/notifications/unsubscribe', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, credentials: 'omit',
      body: JSON.stringify({ token: new URLSearchParams(location.search).get('token') ?? '' })
    })
    const body = await answer.json()
    say.textContent = answer.ok ? `Done. You will get no more mails about ${kinds[body.category] ?? body.category}.` : body.message
    stop.hidden = answer.ok
  } catch {
    say.textContent = 'That did not work. Please try again in a moment.'
  }
  stop.disabled = false
})
