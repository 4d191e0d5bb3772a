package connections

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Sync reads the directory of a project and hands its people to the database, which finds the colleagues among them. For a project without
// a directory it does nothing.
func (k *Keeper) Sync(ctx context.Context, projectID uuid.UUID) error {
	var provider string
	var token uuid.UUID
	err := k.Pool.QueryRow(ctx, "select provider, token_id from private.directory_work($1)", projectID).Scan(&provider, &token)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("directory of project %s: %w", projectID, err)
	}
	directory := k.Providers.Directory(provider)
	if directory == nil {
		return k.noteError(ctx, token, "This installation does not know the directory any more.")
	}
	var reading Reading
	err = k.Use(ctx, token, func(access string) (err error) {
		reading, err = Read(ctx, directory, access)
		return err
	})
	switch reason := ReasonOf(err); {
	case errors.Is(err, ErrBroken), errors.Is(err, ErrNone):
		return err
	case reason == Forbidden:
		return k.noteError(ctx, token, "The directory does not allow its groups to be read. Connect it as an administrator.")
	case reason != "":
		return errors.Join(err, k.noteError(ctx, token, "The directory could not be read. It is tried again."))
	case err != nil:
		return err
	}
	if reading.People == nil {
		reading.People = []Person{}
	}
	if _, err := k.Pool.Exec(ctx, "select private.import_directory($1, $2, $3, $4)", token, reading.Groups, reading.People, reading.Complete); err != nil {
		return fmt.Errorf("import the directory of project %s: %w", projectID, err)
	}
	return nil
}

func (k *Keeper) noteError(ctx context.Context, token uuid.UUID, text string) error {
	if _, err := k.Pool.Exec(ctx, "select private.note_directory_error($1, $2)", token, text); err != nil {
		return fmt.Errorf("note an error of a directory: %w", err)
	}
	return nil
}
