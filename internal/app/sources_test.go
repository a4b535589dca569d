package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/access"
	"cohortflow/internal/fhir"
	"cohortflow/internal/queryexec"
)

func TestVirtualQuery(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		existing string
		want     *int64
	}{
		"ANewOne":       {existing: ""},
		"OneToBeFilled": {existing: "4012", want: new(int64(4012))},
		"NoNumber":      {existing: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := virtualQuery(access.VirtualCohort{PerimeterID: 8, ExistingCohortID: tt.existing})
			require.Equal(t, fhir.Auth{}, q.Auth, "the FHIR server gets no credentials")
			require.Equal(t, tt.want, q.ExistingCohortID)
			require.Equal(t, queryexec.ModeCreate, q.Mode)
			require.Equal(t, "admin", q.Owner)
			require.Equal(t, "/fhir-perimeters/8/", q.CallbackPath)
			require.Empty(t, q.InstanceID)
		})
	}
}
