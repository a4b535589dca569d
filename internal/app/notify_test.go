package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/templates"
)

// What will never be sent counts as sent; what may be sent later does not.
func TestPostboxGivesUpWhatIsHopeless(t *testing.T) {
	t.Parallel()
	nobodyThere := mail.Config{Host: "127.0.0.1", Port: 1, From: "us@example.org"}
	for name, c := range map[string]struct {
		cfg     mail.Config
		to      string
		letter  string
		hopeful bool
	}{
		"no server is configured": {mail.Config{}, "ada@example.org", "export_failed", false},
		"an address that is none": {nobodyThere, "ada at example", "export_failed", false},
		"no such template":        {nobodyThere, "ada@example.org", "nothing_like_it", false},
		"nobody answers":          {nobodyThere, "ada@example.org", "export_failed", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Templates = templates.Files()
			sender, err := mail.NewSender(c.cfg, clock.System{}, platformtest.Log(t))
			require.NoError(t, err)
			err = postbox{sender, platformtest.Log(t)}.Send(t.Context(), mail.Message{ID: "n-1", To: []string{c.to}, Template: c.letter})
			if c.hopeful {
				require.ErrorContains(t, err, "notification n-1")
				return
			}
			require.NoError(t, err)
		})
	}
}
