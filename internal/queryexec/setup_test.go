package queryexec

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/httpclient"
)

// house answers what access would.
type house struct {
	roots     []string
	nominates map[string][]string // username → cohort ids with the right to read nominative data
	err       error
}

func (h *house) RootCohortIDs(context.Context) ([]string, error) { return h.roots, h.err }

func (h *house) MayReadNominative(_ context.Context, username string, ids []string) (bool, error) {
	return slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(h.nominates[username], id) }), h.err
}

// bundle is a translator with a FHIR server that answers one fq after the other, the last one for ever.
type bundle struct {
	translator *Translator
	house      *house
	mu         sync.Mutex
	fqs        []string // "" answers without fq
	handler    http.HandlerFunc
	asked      []*http.Request
}

func setup(t *testing.T, cfg TranslatorConfig) *bundle {
	t.Helper()
	b := &bundle{house: &house{roots: []string{"100"}}, fqs: []string{"fq=x"}}
	server := httptest.NewServer(http.HandlerFunc(b.fhir))
	t.Cleanup(server.Close)
	client, err := fhir.New(newHTTP(t, httpclient.Config{}), fhir.Config{URL: server.URL + "/fhir"})
	require.NoError(t, err)
	b.translator, err = NewTranslator(quiet(), cfg, client, b.house)
	require.NoError(t, err)
	return b
}

func (b *bundle) fhir(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.asked = append(b.asked, r.Clone(context.WithoutCancel(r.Context())))
	fq := b.fqs[0]
	if len(b.fqs) > 1 {
		b.fqs = b.fqs[1:]
	}
	handler := b.handler
	b.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	parameters := []map[string]string{{"name": "collection", "valueString": "patientAphp"}}
	if fq != "" {
		parameters = append(parameters, map[string]string{"name": "fq", "valueString": fq})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"resourceType": "Parameters", "parameter": parameters})
}

func (b *bundle) uris() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, r := range b.asked {
		out = append(out, r.RequestURI)
	}
	return out
}

// translate is a count of the document.
func (b *bundle) translate(t *testing.T, document string) (Translated, error) {
	t.Helper()
	return b.translator.Translate(t.Context(), Query{Serialized: document, Mode: ModeCount, InstanceID: "D1", Owner: "alice"})
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newHTTP(t *testing.T, cfg httpclient.Config) *httpclient.Client {
	t.Helper()
	c, err := httpclient.New(quiet(), cfg)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdle)
	return c
}

// reset breaks the connection instead of answering.
func reset(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}
