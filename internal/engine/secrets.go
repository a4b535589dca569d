package engine

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"cohortflow/internal/platform/database"
)

// Keys are the application's secrets from which the sealing keys are derived (contract decision 31).
type Keys struct {
	// Current seals and opens, Fallbacks only open what older keys sealed.
	Current   string
	Fallbacks []string
}

// String implements fmt.Stringer, so that keys never reach a log.
func (Keys) String() string { return "[keys]" }

// GoString implements fmt.GoStringer for the same reason.
func (Keys) GoString() string { return "[keys]" }

// keyring holds the ciphers by key id.
type keyring struct {
	current string
	byID    map[string]cipher.AEAD
}

// sealingPurpose separates the keys of secrets from whatever else is derived from the application's secret.
const sealingPurpose = "cohortflow engine secrets v1"

func newKeyring(keys Keys) (*keyring, error) {
	ring := &keyring{byID: map[string]cipher.AEAD{}}
	if keys.Current == "" {
		return ring, nil
	}
	for i, secret := range append([]string{keys.Current}, keys.Fallbacks...) {
		if secret == "" {
			continue
		}
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, sealingPurpose, 32)
		if err != nil {
			return nil, fmt.Errorf("derive sealing key %d: %w", i, err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("sealing key %d: %w", i, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("sealing key %d: %w", i, err)
		}
		sum := sha256.Sum256(key)
		id := hex.EncodeToString(sum[:4])
		if i == 0 {
			ring.current = id
		}
		ring.byID[id] = aead
	}
	return ring, nil
}

// seal encrypts for one job: the sealed text opens under no other job's id.
func (k *keyring) seal(jobID string, plain []byte) (keyID string, nonce, sealed []byte, err error) {
	aead, ok := k.byID[k.current]
	if !ok {
		return "", nil, nil, errors.New("no key is configured to seal secrets with")
	}
	nonce = make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", nil, nil, fmt.Errorf("nonce: %w", err)
	}
	return k.current, nonce, aead.Seal(nil, nonce, plain, []byte(jobID)), nil
}

func (k *keyring) open(jobID, keyID string, nonce, sealed []byte) ([]byte, error) {
	aead, ok := k.byID[keyID]
	if !ok {
		return nil, fmt.Errorf("key %s, which sealed it, is not configured any more", keyID)
	}
	if len(nonce) != aead.NonceSize() {
		return nil, errors.New("the nonce is malformed")
	}
	plain, err := aead.Open(nil, nonce, sealed, []byte(jobID))
	if err != nil {
		return nil, errors.New("it was altered, or sealed for another job")
	}
	return plain, nil
}

type secretRow struct {
	JobID     string
	plain     []byte
	KeyID     string
	Nonce     []byte
	Sealed    []byte
	CreatedAt time.Time
}

// seal notes a secret to keep.
func (w *writes) seal(jobID string, plain []byte) {
	w.secrets = append(w.secrets, secretRow{JobID: jobID, plain: plain, CreatedAt: w.now})
}

func (w *writes) flushSecrets(tx *database.Tx) error {
	for i := range w.secrets {
		s := &w.secrets[i]
		var err error
		if s.KeyID, s.Nonce, s.Sealed, err = w.engine.keys.seal(s.JobID, s.plain); err != nil {
			return fmt.Errorf("seal the secret of job %s: %w", s.JobID, err)
		}
	}
	if len(w.secrets) == 0 {
		return nil
	}
	return tx.Table("engine_secret").Create(&w.secrets).Error
}

// Secret opens what was sealed for the job. ErrNoSecret: there is none (any more).
func (e *Engine) Secret(ctx context.Context, jobID string) ([]byte, error) {
	var keyID string
	var nonce, sealed []byte
	err := e.cfg.DB.Read(ctx).Raw(`SELECT key_id, nonce, sealed FROM engine_secret WHERE job_id = ?`, jobID).Row().Scan(&keyID, &nonce, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("job %s: %w", jobID, ErrNoSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret of job %s: %w", jobID, err)
	}
	plain, err := e.keys.open(jobID, keyID, nonce, sealed)
	if err != nil {
		return nil, fmt.Errorf("open the secret of job %s: %w", jobID, err)
	}
	return plain, nil
}
