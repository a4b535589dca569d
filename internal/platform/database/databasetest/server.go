package databasetest

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
)

const server = "postgres://postgres@127.0.0.1:54391/"

var postgresTemplate = sync.OnceValues(func() (string, error) {
	admin, err := sql.Open("pgx", server+"postgres")
	if err != nil {
		return "", err
	}
	defer admin.Close()
	name := "tpl_" + uuid.NewString()
	if _, err := admin.Exec(fmt.Sprintf("CREATE DATABASE %q", name)); err != nil {
		return "", err
	}
	return name, migrate(context.Background(), server+name)
})

func create(t testing.TB, template string) string {
	admin, err := sql.Open("pgx", server+"postgres")
	require.NoError(t, err)
	name := "t_" + uuid.NewString()
	_, err = admin.Exec(fmt.Sprintf("CREATE DATABASE %q TEMPLATE %q", name, template))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(fmt.Sprintf("DROP DATABASE %q WITH (FORCE)", name))
		require.NoError(t, err)
		admin.Close()
	})
	return server + name
}

// PostgresURL is a migrated database.
func PostgresURL(t testing.TB) string {
	template, err := postgresTemplate()
	require.NoError(t, err)
	return create(t, template)
}

// EmptyPostgresURL is an empty one.
func EmptyPostgresURL(t testing.TB) string { return create(t, "template0") }
