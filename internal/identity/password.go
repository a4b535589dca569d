package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Passwords hashes and checks passwords. Existing accounts hold the bare lower-case hexadecimal SHA-256 of the password
// (schema.md 7.1); new ones get argon2id, unless Legacy keeps the old form for sites that must be able to go back
// (decision 8).
type Passwords struct{ Legacy bool }

// argon2id with the parameters of RFC 9106's second choice, scaled to a server that checks many: 19 MiB, two passes.
const (
	argonTime, argonMemory, argonThreads = 2, 19 * 1024, 1
	argonSalt, argonKey                  = 16, 32
)

// Hash is what is stored for a password; at most 128 characters.
func (p Passwords) Hash(password string) (string, error) {
	if p.Legacy {
		return legacyHash(password), nil
	}
	salt := make([]byte, argonSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("salt a password: %w", err)
	}
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// Check compares a password with what is stored. outdated tells that the right password is stored in the old form and
// should be hashed anew. Anything that is neither form never matches.
func (p Passwords) Check(password, stored string) (ok, outdated bool) {
	if strings.HasPrefix(stored, "$argon2id$") {
		return checkArgon(password, stored), false
	}
	if len(stored) != sha256.Size*2 {
		return false, false
	}
	ok = subtle.ConstantTimeCompare([]byte(legacyHash(password)), []byte(stored)) == 1
	if !ok {
		p.Waste(password) // the old form is checked in no time: that must not tell that the name exists
	}
	return ok, ok && !p.Legacy
}

// Waste takes as long as Check does with an argon2id hash, so that the answer's time tells nothing about names.
func (p Passwords) Waste(password string) {
	if !p.Legacy {
		argon2.IDKey([]byte(password), make([]byte, argonSalt), argonTime, argonMemory, argonThreads, argonKey)
	}
}

func checkArgon(password, stored string) bool {
	parts := strings.Split(stored, "$")
	if len(parts) != 6 {
		return false
	}
	var memory, passes uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); err != nil || memory > 1<<20 || passes > 64 || threads == 0 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) == 0 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}

func legacyHash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}
