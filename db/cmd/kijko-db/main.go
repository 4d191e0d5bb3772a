// Command kijko-db brings a database to the state of this binary. DATABASE_URL names it, as its owner.
//
//	kijko-db setup     roles, migrations, code package (what a deployment runs before it starts new servers)
//	kijko-db roles     the roles alone, which a cluster needs before a backup is restored into it
//	kijko-db install   the code package alone
//	kijko-db code      print the code package as one SQL script
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"

	"kijko/db"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kijko-db:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: kijko-db setup | roles | install | code")
	}
	if args[0] == "code" {
		sql, err := db.CodeSQL()
		if err == nil {
			fmt.Print(sql)
		}
		return err
	}
	work, known := map[string]func(context.Context, *pgx.Conn) error{"setup": db.Setup, "roles": db.Roles, "install": db.Install}[args[0]]
	if !known {
		return fmt.Errorf("unknown command %q: setup, roles, install or code", args[0])
	}
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if version, err := db.VersionOf(ctx, conn); err == nil && version.Untested {
		fmt.Fprintf(os.Stderr, "kijko-db: PostgreSQL %s is newer than what Kijko was tested on (%s)\n", version.Text, db.TestedVersions)
	}
	return work(ctx, conn)
}
