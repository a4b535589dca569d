package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/maintenance"
	"cohortflow/internal/platform/database"
)

func TestMaintenancesAreToldAtTheirVeryMoments(t *testing.T) {
	t.Parallel()
	for name, fresh := range bothDialects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fresh(t))
			now := w.clock.Now()
			require.NoError(t, w.app.db.Update(t.Context(), func(tx *database.Tx) error {
				return tx.Create(&maintenance.Phase{Subject: "soon", Type: "full", StartDatetime: now.Add(20 * time.Second), EndDatetime: now.Add(time.Hour)}).Error
			}))
			require.NoError(t, w.app.tellMaintenances(t.Context(), w.app.parts))
			var owed []struct {
				Name  string
				DueAt time.Time
			}
			require.NoError(t, w.app.db.Read(t.Context()).Table("engine_task").Select("name", "due_at").Find(&owed).Error)
			require.Len(t, owed, 1)
			require.Equal(t, maintenanceTurn.Name, owed[0].Name)
			require.WithinDuration(t, now.Add(20*time.Second), owed[0].DueAt, time.Millisecond)
		})
	}
}
