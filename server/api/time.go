package api

import "time"

func parseISO(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func secondsUntil(t time.Time) int64 { return int64(time.Until(t).Seconds() + 0.999) }
