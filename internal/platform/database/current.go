package database

import (
	"context"
	"fmt"
)

// Current tells whether the database has all steps of this release and none of a later one: what Inspect's Ready means, by
// one small query, for probes. An error: it cannot be read, for instance because the tables are not there.
func Current(ctx context.Context, db *DB) (bool, error) {
	var versions []int64
	if err := db.Read(ctx).Raw("SELECT version FROM " + versionTable + " ORDER BY version").Scan(&versions).Error; err != nil {
		return false, fmt.Errorf("read the migrations taken: %w", err)
	}
	if len(versions) != len(steps) {
		return false, nil
	}
	for i, s := range steps {
		if versions[i] != s.version {
			return false, nil
		}
	}
	return true, nil
}
