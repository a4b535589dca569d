package access

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// together runs functions at the same time, and returns their errors in their order.
func together(list ...func() error) []error {
	errs := make([]error, len(list))
	var group sync.WaitGroup
	for i, f := range list {
		group.Go(func() { errs[i] = f() })
	}
	group.Wait()
	return errs
}

func roleNamed(name string) RolePatch {
	return RolePatch{Name: web.Opt[string]{Set: true, Value: name}}
}

func TestOneNameForOneRole(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		full := identity.Caller{Username: "full"}
		create := func() error {
			_, err := b.CreateRole(t.Context(), full, roleNamed("the same"))
			return err
		}
		made := 0
		for _, err := range together(create, create, create, create) {
			if err == nil {
				made++
				continue
			}
			require.ErrorAs(t, err, new(*fault.Invalid))
		}
		require.Equal(t, 1, made)
	})
}

func TestNoAccessWithADeletedRole(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		full := identity.Caller{Username: "full"}
		profile := b.profile("x")
		for range 5 {
			role, err := b.CreateRole(t.Context(), full, RolePatch{Set: ReadPseudonymized})
			require.NoError(t, err)
			errs := together(
				func() error { return b.DeleteRole(t.Context(), full, role.ID) },
				func() error {
					_, err := b.CreateAccess(t.Context(), full, NewAccess{ProfileID: profile, RoleID: role.ID, PerimeterID: 4})
					return err
				})
			require.NotEqual(t, errs[0] == nil, errs[1] == nil, "one of the two wins: %v", errs)
		}
	})
}

// A service decides by itself, whatever route led to it.
func TestServicesRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		role, future := b.role(nomi), b.give("x", nomi, 4)
		for _, who := range []identity.Caller{{}, {Username: "x"}} {
			for name, act := range map[string]func() error{
				"CreateRole":   func() error { _, err := b.CreateRole(t.Context(), who, roleNamed("mine")); return err },
				"PatchRole":    func() error { _, err := b.PatchRole(t.Context(), who, role, roleNamed("mine")); return err },
				"DeleteRole":   func() error { return b.DeleteRole(t.Context(), who, role) },
				"ListAccesses": func() error { _, _, _, err := b.ListAccesses(t.Context(), who, AccessFilter{}, web.Page{}); return err },
				"GetAccess":    func() error { _, err := b.GetAccess(t.Context(), who, future); return err },
				"PatchDates":   func() error { _, err := b.PatchDates(t.Context(), who, future, nil, &b.now); return err },
				"CloseAccess":  func() error { _, err := b.CloseAccess(t.Context(), who, future); return err },
				"DeleteAccess": func() error { return b.DeleteAccess(t.Context(), who, future) },
				"CreateAccess": func() error {
					_, err := b.CreateAccess(t.Context(), who, NewAccess{ProfileID: b.profile("x"), RoleID: role, PerimeterID: 4})
					return err
				},
			} {
				require.ErrorAs(t, act(), new(fault.Forbidden), name)
			}
		}
	})
}

// Another process sees a changed tree with its next question.
func TestTreeOfAnotherProcess(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		other, err := NewService(Config{}, b.db, b.clock, slog.New(slog.DiscardHandler), Peers{Users: accounts{}})
		require.NoError(t, err)
		before, err := other.Snapshot(t.Context())
		require.NoError(t, err)
		again, err := other.Snapshot(t.Context())
		require.NoError(t, err)
		require.Same(t, before, again)
		require.NoError(t, b.SetVirtualCohort(t.Context(), 4, "77", ""))
		after, err := other.Snapshot(t.Context())
		require.NoError(t, err)
		require.Len(t, after.OfCohort("77"), 1)
		require.Empty(t, after.OfCohort("4"))
		_, err = b.ReloadPerimeters(t.Context(), strings.NewReader(sample))
		require.NoError(t, err)
		after, err = other.Snapshot(t.Context())
		require.NoError(t, err)
		require.False(t, after.Get(11).Live())
		require.Error(t, b.db.Update(t.Context(), func(tx *database.Tx) error {
			if err := touchTree(tx); err != nil {
				return err
			}
			return errBroken
		}))
	})
}
