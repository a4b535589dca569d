package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/hospital"
	"cohortflow/internal/simulate/qesim"
	"cohortflow/internal/simulate/smtpsim"
)

// control is the doubles' own API, for demos and tests (contract: peers.md 15.1):
//
//	GET, PUT, DELETE /_simulate/faults           the rules, a JSON array of faultplan.Rule
//	GET /_simulate/addresses                     where the doubles are
//	GET /_simulate/requests?peer=qe              the last requests to a double, or to all
//	GET, DELETE /_simulate/mails                 the inbox; GET …/{id}, …/{id}/html, …/{id}/raw: one mail
//	POST /_simulate/jobs/{id}/callback           sends the body as a callback of a job of QueryExecutor, now
//	POST /_simulate/etl/{uuid}/finish            lets the ETL call back for a cohort, now; the body, if any, is sent
//	POST /_simulate/evaluate                     the true count of a query document: {"count": n}
func (s *Suite) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_simulate/faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.plan.Rules()) })
	mux.HandleFunc("PUT /_simulate/faults", s.putFaults)
	mux.HandleFunc("DELETE /_simulate/faults", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, s.plan.Set(), http.StatusBadRequest)
	})
	mux.HandleFunc("GET /_simulate/addresses", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Addresses()) })
	mux.HandleFunc("GET /_simulate/requests", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, s.Requests(r.URL.Query().Get("peer")))
	})
	mux.HandleFunc("GET /_simulate/mails", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Inbox().Mails()) })
	mux.HandleFunc("DELETE /_simulate/mails", func(w http.ResponseWriter, _ *http.Request) {
		s.Inbox().Clear()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_simulate/mails/{id}", s.mail(func(w http.ResponseWriter, m smtpsim.Mail) { writeJSON(w, http.StatusOK, m) }))
	mux.HandleFunc("GET /_simulate/mails/{id}/html", s.mail(func(w http.ResponseWriter, m smtpsim.Mail) {
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:")
		_, _ = io.WriteString(w, m.HTML)
	}))
	mux.HandleFunc("GET /_simulate/mails/{id}/raw", s.mail(func(w http.ResponseWriter, m smtpsim.Mail) {
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		_, _ = w.Write(m.Raw)
	}))
	mux.HandleFunc("POST /_simulate/jobs/{id}/callback", s.withBody(func(r *http.Request, body []byte) error {
		return s.qe.Callback(r.Context(), r.PathValue("id"), body)
	}))
	mux.HandleFunc("POST /_simulate/etl/{uuid}/finish", s.withBody(func(r *http.Request, body []byte) error {
		if len(body) == 0 {
			body = nil
		}
		return s.etl.Finish(r.Context(), r.PathValue("uuid"), body)
	}))
	mux.HandleFunc("POST /_simulate/evaluate", s.evaluate)
	return mux
}

func (s *Suite) putFaults(w http.ResponseWriter, r *http.Request) {
	var rules []faultplan.Rule
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&rules)
	if err == nil {
		err = s.plan.Set(rules...)
	}
	writeError(w, err, http.StatusBadRequest)
}

func (s *Suite) mail(show func(http.ResponseWriter, smtpsim.Mail)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		for _, m := range s.Inbox().Mails() {
			if err == nil && m.ID == id {
				show(w, m)
				return
			}
		}
		writeJSON(w, http.StatusNotFound, map[string]string{"detail": "no such mail"})
	}
}

// withBody reads the body and answers how the action went: 404 for what does not exist, 502 when the backend refused.
func (s *Suite) withBody(act func(r *http.Request, body []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
		status := http.StatusBadRequest
		if err == nil {
			err, status = act(r, body), http.StatusBadGateway
		}
		if errors.Is(err, qesim.ErrUnknownJob) || errors.Is(err, hospital.ErrNoList) {
			status = http.StatusNotFound
		}
		writeError(w, err, status)
	}
}

func (s *Suite) evaluate(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	var count int
	if err == nil {
		count, err = s.Evaluate(string(body))
	}
	if err != nil {
		writeError(w, err, http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, map[string]int{"count": count})
}

// writeError answers 204, or the error with the status.
func writeError(w http.ResponseWriter, err error, status int) {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, status, map[string]string{"detail": fmt.Sprint(err)})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller may be gone
}
