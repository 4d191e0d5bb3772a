package peers

import "testing"

// MinIO is a real object store.
type MinIO struct {
	URL            string
	User, Password string
}

// NewMinIO starts a MinIO that keeps its files in data.
func NewMinIO(t testing.TB, data string) *MinIO {
	t.Helper()
	m := &MinIO{User: "kijko-test", Password: "kijko-test-secret"}
	addresses := start(t, MinIOProgram, 1, []string{"MINIO_ROOT_USER=" + m.User, "MINIO_ROOT_PASSWORD=" + m.Password, "MINIO_BROWSER=off"},
		func(a []string) []string { return []string{"server", "--quiet", "--address", a[0], data} }, "/minio/health/live")
	m.URL = "http://" + addresses[0]
	return m
}
