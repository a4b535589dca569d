package database

import "fmt"

// LockName holds everybody else who locks the same name until the transaction ends: for what must be counted and then
// written where there is no row to lock yet. On SQLite the transaction already holds the one write lock.
func LockName(tx *Tx, name string) error {
	if DialectOf(tx.DB) == SQLite {
		return nil
	}
	if err := tx.Exec("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", name).Error; err != nil {
		return fmt.Errorf("lock a name: %w", err)
	}
	return nil
}
