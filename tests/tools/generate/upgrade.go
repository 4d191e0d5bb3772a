package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kijko/db/devpg"
)

// A database in use gets new code over its old one. Functions are replaced in place, which Postgres refuses where a parameter has another
// name or the result another type. A function that was deleted from the files stays. rehearse upgrades from the state of the committed
// files, as long as they exist: once they are renewed, the earlier state is unknown.
func rehearse(ctx context.Context, root string, fresh []byte) (err error) {
	files, err := filepath.Glob(filepath.Join(root, "supabase", "migrations", "*.sql"))
	if err != nil || len(files) == 0 {
		return err
	}
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true, Progress: say})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	d, err := newDatabase(ctx, cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.drop(context.WithoutCancel(ctx))) }()
	slices.Sort(files)
	for _, file := range files {
		if err := d.psql(ctx, file); err != nil {
			return err
		}
	}
	if err := d.setUp(ctx); err != nil {
		return fmt.Errorf("a database in the state of the committed files refuses this code; write \"drop function if exists\" before a function "+
			"that cannot be replaced: %w", err)
	}
	dump, err := d.dump(ctx)
	if err != nil {
		return err
	}
	if left := leftover(dump, fresh); len(left) > 0 {
		return fmt.Errorf("functions that are gone from the files stay in databases that are in use; drop them in a file of their feature: %s",
			strings.Join(left, ", "))
	}
	return nil
}

var functionName = regexp.MustCompile(`(?m)^-- Name: (.*); Type: FUNCTION; Schema: (\w+);`)

// leftover names the functions that an upgraded database has and a fresh one does not.
func leftover(upgraded, fresh []byte) (left []string) {
	known := map[string]bool{}
	for _, m := range functionName.FindAllStringSubmatch(string(fresh), -1) {
		known[m[2]+"."+m[1]] = true
	}
	for _, m := range functionName.FindAllStringSubmatch(string(upgraded), -1) {
		if name := m[2] + "." + m[1]; !known[name] {
			left = append(left, name)
		}
	}
	return left
}
