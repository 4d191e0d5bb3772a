package devpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// settings are lines of postgresql.conf.
type settings map[string]string

// commonSettings hold for every cluster of ours.
var commonSettings = settings{
	"listen_addresses":          "127.0.0.1",
	"unix_socket_permissions":   "0700",
	"password_encryption":       "scram-sha-256",
	"timezone":                  "UTC",
	"log_timezone":              "UTC",
	"lc_messages":               "C",
	"log_line_prefix":           "%m [%p] %u@%d %a ",
	"log_checkpoints":           "off",
	"jit":                       "off", // compiling costs more than any query of ours runs
	"shared_preload_libraries":  "",
	"max_prepared_transactions": "0",
	"max_locks_per_transaction": "256",
}

// durableSettings keep committed data, also through a power cut.
var durableSettings = settings{
	"fsync":              "on",
	"synchronous_commit": "on",
	"full_page_writes":   "on",
	"max_connections":    "200",
	"shared_buffers":     "128MB",
	"max_wal_size":       "1GB",
	"log_min_messages":   "warning",
}

// forgetfulSettings trade everything for speed: the data is thrown away anyway. Logical settings
// that queries can notice stay as above.
var forgetfulSettings = settings{
	"fsync":                   "off",
	"synchronous_commit":      "off",
	"full_page_writes":        "off",
	"max_connections":         "400", // two packages at once, each with servers, workers and pools
	"shared_buffers":          "256MB",
	"wal_level":               "minimal",
	"max_wal_senders":         "0",
	"max_wal_size":            "4GB",
	"checkpoint_timeout":      "1h",
	"autovacuum_naptime":      "5min",
	"track_functions":         "all", // the suite checks that every SQL function is called
	"log_min_messages":        "warning",
	"log_min_error_statement": "panic", // tests provoke errors by the thousand
}

const accessRules = `# Written at every start. The folder of the unix socket can be entered by this cluster's owner and by
# root alone, so a connection there has already been identified by the operating system.
local all all trust
host  all all 127.0.0.1/32 scram-sha-256
`

// writeSettings writes the two configuration files of ours; postgresql.conf itself stays as initdb
// made it, with one include at its end.
func (c *Cluster) writeSettings(s settings) error {
	all := maps.Clone(commonSettings)
	maps.Copy(all, s)
	all["port"] = strconv.Itoa(c.place.Port)
	all["unix_socket_directories"] = c.place.Socket
	var b strings.Builder
	b.WriteString("# Written at every start; put settings of your own into postgresql.auto.conf with ALTER SYSTEM.\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	if err := c.writeOwn("kijko.conf", b.String()); err != nil {
		return err
	}
	return c.writeOwn("pg_hba.conf", accessRules)
}

// writeOwn writes a file of the data folder as its owner's.
func (c *Cluster) writeOwn(name, text string) error {
	path := filepath.Join(c.place.Data, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return c.account.own(path)
}

// versionOf returns the major version of the cluster in data, 0 where there is none.
func versionOf(data string) int {
	if data == "" {
		return 0
	}
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return 0
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0
	}
	return v
}

// initialize runs initdb beside the final place and moves the finished cluster there, so that an
// interrupted run leaves no folder that looks like a database.
func (c *Cluster) initialize(ctx context.Context, s settings) error {
	final := c.place.Data
	unfinished := final + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("remove an unfinished database: %w", err)
	}
	if _, err := os.Stat(final); err == nil {
		return fmt.Errorf("%s exists and is not a database: move it away", final)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the database folder: %w", err)
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return fmt.Errorf("create the database folder: %w", err)
	}
	if err := c.account.own(unfinished); err != nil {
		return err
	}
	// C.UTF-8 sorts by code point everywhere; systems without that locale get C, which sorts the same.
	err := c.initdb(ctx, unfinished, "C.UTF-8", s)
	if err != nil && strings.Contains(err.Error(), "invalid locale") {
		err = c.initdb(ctx, unfinished, "C", s)
	}
	if err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(unfinished, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, werr := conf.WriteString("\ninclude 'kijko.conf'\n")
	if err := errors.Join(werr, conf.Close()); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	if err := os.Rename(unfinished, final); err != nil {
		return fmt.Errorf("put the database in place: %w", err)
	}
	return nil
}

func (c *Cluster) initdb(ctx context.Context, data, locale string, s settings) (err error) {
	// A file rather than standard input: another user may not open our pipe by its name.
	secret := data + ".secret"
	if err := os.WriteFile(secret, []byte(c.place.Password+"\n"), 0o600); err != nil {
		return fmt.Errorf("hand over the password: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(secret)) }()
	if err := c.account.own(secret); err != nil {
		return err
	}
	args := []string{
		"-D", data, "-U", Superuser, "-E", "UTF8", "--locale=" + locale,
		"-A", "scram-sha-256", "--pwfile=" + secret,
	}
	if s["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, c.Tool("initdb"), args...)
	cmd.Dir = data
	cmd.Env = cleanEnvironment()
	cmd.SysProcAttr = c.account.attributes()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return commandError("initdb", args, out, err)
	}
	return nil
}
