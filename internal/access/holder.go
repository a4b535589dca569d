package access

import (
	"context"

	"cohortflow/internal/platform/database"
)

// EnsureHolder makes an account that holds a role on a perimeter for a year, unless it is there: for demonstrations. It may
// be run again; an account, a role or an access that exists is left as it is.
func (s *Service) EnsureHolder(ctx context.Context, user NewUser, role RoleSeed, perimeter int64) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		profile, err := s.seedUser(ctx, tx, user, &LoadReport{})
		if err != nil {
			return err
		}
		r, err := s.ensureRole(tx, role)
		if err != nil {
			return err
		}
		now := s.clock.Now()
		_, err = s.ensureAccess(tx, profile, r, perimeter, now, now.AddDate(1, 0, 0))
		return err
	})
}
