package identity_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
)

func TestPasswords(t *testing.T) {
	t.Parallel()
	p, legacy := identity.Passwords{}, identity.Passwords{Legacy: true}
	old, err := legacy.Hash("pâß 🔑")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{64}$`, old)
	ok, outdated := p.Check("pâß 🔑", old)
	require.True(t, ok)
	require.True(t, outdated, "to be hashed anew")
	ok, outdated = legacy.Check("pâß 🔑", old)
	require.True(t, ok)
	require.False(t, outdated, "the old form is kept on purpose")

	first, err := p.Hash("secret")
	require.NoError(t, err)
	second, err := p.Hash("secret")
	require.NoError(t, err)
	require.NotEqual(t, first, second, "salted")
	require.LessOrEqual(t, len(first), 128, "the column's length")
	for _, checker := range []identity.Passwords{p, legacy} {
		ok, outdated = checker.Check("secret", first)
		require.True(t, ok)
		require.False(t, outdated)
	}
	for name, stored := range map[string]string{
		"Argon": first, "Legacy": old, "Empty": "", "Clear": "wrong", "UpperCaseHash": strings.ToUpper(old), "CutShort": first[:len(first)-3],
		"OtherFramework": "pbkdf2_sha256$1$x$y", "NoParts": "$argon2id$", "NoThreads": "$argon2id$v=19$m=8,t=1,p=0$AAAA$AAAA",
		"AllTheMemory": "$argon2id$v=19$m=4294967295,t=1,p=1$AAAA$AAAA", "NoKey": "$argon2id$v=19$m=8,t=1,p=1$AAAA$", "NoBase64": "$argon2id$v=19$m=8,t=1,p=1$!$!",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ok, outdated := p.Check("wrong", stored)
			require.False(t, ok)
			require.False(t, outdated)
		})
	}
}
