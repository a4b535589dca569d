package app

import (
	"context"
	"errors"
	"strconv"

	"cohortflow/internal/access"
	"cohortflow/internal/cohort"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/requestlog"
)

// The types of this file let one capability answer what another declares it needs.

// profiles makes identity's new users holders of accesses.
type profiles struct{ parts *parts }

// AddManualProfile implements identity.Profiles.
func (p profiles) AddManualProfile(_ context.Context, tx *database.Tx, username string) error {
	return p.parts.access.EnsureProfile(tx, username)
}

// accounts makes the accounts that access's commands need.
type accounts struct{ users *identity.Users }

// EnsureUser implements access.Users.
func (a accounts) EnsureUser(ctx context.Context, tx *database.Tx, u access.NewUser) (bool, error) {
	n := identity.NewUser{Username: u.Username, Firstname: u.Firstname, Lastname: u.Lastname, Email: u.Email}
	if u.Password != "" {
		n.Password = &u.Password
	}
	return a.users.Ensure(ctx, tx, n)
}

// perimeters answers queryexec's questions about the tree.
type perimeters struct{ access *access.Service }

// RootCohortIDs implements queryexec.Perimeters.
func (p perimeters) RootCohortIDs(ctx context.Context) ([]string, error) {
	id, err := p.access.RootCohortID(ctx)
	if errors.Is(err, access.ErrNoRoot) {
		return nil, nil
	}
	return []string{id}, err
}

// MayReadNominative implements queryexec.Perimeters. Ids that are no numbers belong to no perimeter.
func (p perimeters) MayReadNominative(ctx context.Context, username string, cohortIDs []string) (bool, error) {
	ids := make([]int64, 0, len(cohortIDs))
	for _, text := range cohortIDs {
		if id, err := strconv.ParseInt(text, 10, 64); err == nil {
			ids = append(ids, id)
		}
	}
	return p.access.HasNominativeRead(ctx, username, ids)
}

// cohortRights answers what a caller may do with the patients of cohorts.
type cohortRights struct{ access *access.Service }

// CohortRights implements cohort.Rights.
func (r cohortRights) CohortRights(ctx context.Context, username string, cohorts [][]string) ([]cohort.GroupRights, error) {
	rights, err := r.access.CohortRights(ctx, username, cohorts)
	out := make([]cohort.GroupRights, len(rights))
	for i, right := range rights {
		out[i] = cohort.GroupRights(right)
	}
	return out, err
}

// admins answers who is a full admin; it stands for access, which is built after those who ask.
type admins struct{ parts *parts }

// IsFullAdmin implements identity.Admins.
func (a admins) IsFullAdmin(ctx context.Context, username string) (bool, error) {
	return a.parts.access.IsFullAdmin(ctx, username)
}

// logUsers shows who made a logged request.
type logUsers struct{ store *identity.Store }

// Views implements requestlog.Users.
func (l logUsers) Views(ctx context.Context, usernames []string) (map[string]requestlog.User, error) {
	views, err := l.store.Views(ctx, usernames)
	if err != nil {
		return nil, err
	}
	users := make(map[string]requestlog.User, len(views))
	for name, view := range views {
		users[name] = requestlog.User(view)
	}
	return users, nil
}
