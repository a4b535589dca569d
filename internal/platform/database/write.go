package database

import (
	"context"

	"gorm.io/gorm"
)

// Write is a handle for single statements that write, outside of a transaction: one round trip instead of three. On SQLite
// each is a transaction of its own on the one connection for writing.
func (db *DB) Write(ctx context.Context) *gorm.DB { return db.write.WithContext(ctx) }
