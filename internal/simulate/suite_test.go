package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/hospital"
	"cohortflow/internal/simulate/smtpsim"
)

// call is one callback that the backend of a test received.
type call struct {
	Path, Token string
	Raw         string
	Body        map[string]any
}

// backendDouble takes callbacks and hands them out in the order of their arrival.
type backendDouble struct {
	*httptest.Server
	calls chan call
	mu    sync.Mutex
	code  int
}

func newBackend(t *testing.T) *backendDouble {
	t.Helper()
	b := &backendDouble{calls: make(chan call, 100), code: http.StatusOK}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		c := call{Path: r.Method + " " + r.URL.Path, Token: r.Header.Get("Authorization"), Raw: string(raw)}
		_ = json.Unmarshal(raw, &c.Body)
		b.mu.Lock()
		code := b.code
		b.mu.Unlock()
		w.WriteHeader(code)
		b.calls <- c
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backendDouble) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-b.calls:
		return c
	case <-time.After(10 * time.Second):
		require.FailNow(t, "no callback came")
		return call{}
	}
}

type bundle struct {
	*Suite
	cfg     Config
	backend *backendDouble
}

func setup(t *testing.T, change ...func(*Config)) *bundle {
	t.Helper()
	b := &bundle{backend: newBackend(t)}
	b.cfg = Config{Log: slog.New(slog.DiscardHandler), Clock: clock.System{}, Dir: t.TempDir(), Seed: 7, Patients: 600, Perimeters: 60,
		QEToken: "qe-token", ETLToken: "etl-token", BackendURL: b.backend.URL}
	for _, f := range change {
		f(&b.cfg)
	}
	b.Suite = b.start(t)
	return b
}

func (b *bundle) start(t *testing.T) *Suite {
	t.Helper()
	s, err := New(b.cfg)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	return s
}

// post sends a job, in the notation of the old back-end.
func (b *bundle) post(t *testing.T, mode, uuid, definition, more string) map[string]any {
	t.Helper()
	literal, err := json.Marshal(definition)
	require.NoError(t, err)
	body := fmt.Sprintf("input.cohortDefinitionName = Created from C360 backend,input.cohortDefinitionSyntax = %s,"+
		"input.ownerEntityId = 4212345,input.mode = %s,input.cohortUuid = %s%s", literal, mode, uuid, more)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.Addresses().QueryExecutor+"/jobs?appName=omop-spark-job", strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var answer map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.Equal(t, http.StatusOK, response.StatusCode)
	return answer
}

func (b *bundle) fhir(t *testing.T, path string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.Addresses().FHIR+path, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer of-a-user")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var answer map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	return response.StatusCode, answer
}

const women = `{"_type":"request","instance_id":"%s","sourcePopulation":{"caresiteCohortList":[20001]},"request":{"_type":"andGroup","_id":0,
 "isInclusive":true,"criteria":[{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Patient","filterFhir":"active=true&gender=f"}]}}`

func TestCountCallsBackWithTheTrueNumber(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := 0
	for i := range b.Hospital().Size() {
		if p := b.Hospital().Patient(int32(i)); p.Female && p.Active {
			want++
		}
	}
	answer := b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), `,input.modeOptions = {"sampling":null,"details":"all"}`)
	require.Equal(t, "RUNNING", answer["status"])
	got := b.backend.next(t)
	require.Equal(t, "PATCH /cohort/dated-measures/d1/", got.Path)
	require.Equal(t, "Bearer qe-token", got.Token)
	n := strconv.Itoa(want)
	require.Equal(t, map[string]any{"request_job_status": "FINISHED", "count": n,
		"extra": map[string]any{"criteria_count_0": n, "criteria_count_1": n}}, got.Body)
	oracle, err := b.Evaluate(fmt.Sprintf(women, "d1"))
	require.NoError(t, err)
	require.Equal(t, want, oracle)
}

func TestCreationMakesAListThatFHIRKnows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
	got := b.backend.next(t)
	require.Equal(t, "PATCH /cohort/cohorts/c1/", got.Path)
	require.Equal(t, "FINISHED", got.Body["request_job_status"])
	status, page := b.fhir(t, fmt.Sprintf("/Patient?_list=%s&_count=7", got.Body["group.id"]))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, got.Body["group.count"], strconv.Itoa(int(page["total"].(float64))))
	require.Len(t, page["entry"], 7)
	for _, entry := range page["entry"].([]any) {
		require.Equal(t, "female", entry.(map[string]any)["resource"].(map[string]any)["gender"])
	}
}

func TestLargeCohortIsFinishedByTheETL(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.CohortCreationLimit = 10; c.IndexDelay = time.Millisecond })
	b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
	calls := []call{b.backend.next(t), b.backend.next(t)} // in any order: E-01
	if calls[0].Token != "Bearer qe-token" {
		calls[0], calls[1] = calls[1], calls[0]
	}
	require.Equal(t, "LONG_PENDING", calls[0].Body["request_job_status"])
	require.Equal(t, "Bearer etl-token", calls[1].Token)
	require.Equal(t, "FINISHED", calls[1].Body["request_job_status"])
	require.Equal(t, calls[0].Body["group.id"], calls[1].Body["group.id"])
}

func TestCallbackFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rule faultplan.Rule
		want func(t *testing.T, b *bundle)
	}{
		"Lost": {faultplan.Rule{Action: faultplan.CallbackLost, UUID: "d1"}, func(t *testing.T, b *bundle) {
			b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			b.post(t, "count", "d2", fmt.Sprintf(women, "d2"), "")
			require.Contains(t, b.backend.next(t).Path, "d2")
			require.Empty(t, b.backend.calls)
		}},
		"EverySecondLost": {faultplan.Rule{Action: faultplan.CallbackLost, Nth: 2}, func(t *testing.T, b *bundle) {
			for i := range 4 {
				b.post(t, "count", fmt.Sprintf("d%d", i), fmt.Sprintf(women, "d"), "")
			}
			b.backend.next(t)
			b.backend.next(t)
			require.Empty(t, b.backend.calls)
		}},
		"Duplicated": {faultplan.Rule{Action: faultplan.CallbackDuplicate, Count: 2}, func(t *testing.T, b *bundle) {
			b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			first := b.backend.next(t)
			require.Equal(t, first, b.backend.next(t))
			require.Equal(t, first, b.backend.next(t))
		}},
		"Early": {faultplan.Rule{Action: faultplan.CallbackEarly}, func(t *testing.T, b *bundle) {
			answer := b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			require.Equal(t, "RUNNING", answer["status"])
			require.Len(t, b.backend.calls, 1)
		}},
		"OutOfOrder": {faultplan.Rule{Action: faultplan.CallbackSwap, Times: 1}, func(t *testing.T, b *bundle) {
			require.NoError(t, b.Faults().Set(append(b.Faults().Rules(), faultplan.Rule{Peer: "qe", Action: faultplan.CallbackEarly, UUID: "d2"})...))
			b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			require.Eventually(t, func() bool { return b.status(t, 0) == "FINISHED" }, 10*time.Second, time.Millisecond)
			b.post(t, "count", "d2", fmt.Sprintf(women, "d2"), "")
			require.Contains(t, b.backend.next(t).Path, "d2")
			require.Contains(t, b.backend.next(t).Path, "d1")
		}},
		"Garbage": {faultplan.Rule{Action: faultplan.CallbackBody, Body: `{"request_job`}, func(t *testing.T, b *bundle) {
			b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			require.Equal(t, `{"request_job`, b.backend.next(t).Raw)
		}},
		"WrongToken": {faultplan.Rule{Action: faultplan.CallbackToken, Body: "stranger"}, func(t *testing.T, b *bundle) {
			b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			require.Equal(t, "Bearer stranger", b.backend.next(t).Token)
		}},
		"JobFails": {faultplan.Rule{Action: faultplan.JobError, Body: "Job aborted"}, func(t *testing.T, b *bundle) {
			b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
			require.Equal(t, map[string]any{"request_job_status": "ERROR", "message": "Job aborted"}, b.backend.next(t).Body)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			tt.rule.Peer = "qe"
			require.NoError(t, b.Faults().Set(tt.rule))
			tt.want(t, b)
		})
	}
}

// status is the state of the n-th job as GET /jobs tells it.
func (b *bundle) status(t *testing.T, n int) string {
	response, err := http.Get(b.Addresses().QueryExecutor + "/jobs")
	require.NoError(t, err)
	defer response.Body.Close()
	var jobs []struct{ Status string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&jobs))
	if n >= len(jobs) {
		return ""
	}
	return jobs[n].Status
}

func TestRequestFaultsThroughTheControlAPI(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rule     string
		want     func(t *testing.T, response *http.Response, err error)
		accepted bool
	}{
		"ServerError": {`{"peer":"qe","action":"status","code":503,"body":"down"}`, func(t *testing.T, r *http.Response, err error) {
			require.NoError(t, err)
			require.Equal(t, 503, r.StatusCode)
		}, false},
		"MalformedJSON": {`{"peer":"qe","action":"body","body":"{\"status\":"}`, func(t *testing.T, r *http.Response, err error) {
			require.NoError(t, err)
			body, _ := io.ReadAll(r.Body)
			require.Equal(t, `{"status":`, string(body))
		}, false},
		"Reset":              {`{"peer":"qe","action":"reset"}`, func(t *testing.T, _ *http.Response, err error) { require.Error(t, err) }, false},
		"TimeOut":            {`{"peer":"qe","action":"hang"}`, func(t *testing.T, _ *http.Response, err error) { require.Error(t, err) }, false},
		"TimeOutAfterAccept": {`{"peer":"qe","action":"hang","after":true}`, func(t *testing.T, _ *http.Response, err error) { require.Error(t, err) }, true},
		"Truncated": {`{"peer":"qe","action":"truncate"}`, func(t *testing.T, r *http.Response, err error) {
			require.NoError(t, err)
			_, err = io.ReadAll(r.Body)
			require.Error(t, err)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			put, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.Addresses().Control+"/_simulate/faults", strings.NewReader("["+tt.rule+"]"))
			require.NoError(t, err)
			done, err := http.DefaultClient.Do(put)
			require.NoError(t, err)
			require.NoError(t, done.Body.Close())
			require.Equal(t, http.StatusNoContent, done.StatusCode)
			body, err := json.Marshal(map[string]any{"input": map[string]any{"mode": "count", "cohortUuid": "d1", "cohortDefinitionSyntax": fmt.Sprintf(women, "d1")}})
			require.NoError(t, err)
			client := &http.Client{Timeout: 300 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
			response, err := client.Post(b.Addresses().QueryExecutor+"/jobs", "application/json", bytes.NewReader(body))
			if err == nil {
				defer response.Body.Close()
			}
			tt.want(t, response, err)
			require.NoError(t, b.Faults().Set())
			if tt.accepted {
				require.Contains(t, b.backend.next(t).Path, "d1")
			}
		})
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	t.Run("RunningJobsGoOnAndCallBack", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(c *Config) { c.Latency = time.Hour })
		b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
		require.NoError(t, b.Stop(t.Context()))
		b.cfg.Latency = 0
		b.Suite = b.start(t)
		require.Contains(t, b.backend.next(t).Path, "d1")
		require.Eventually(t, func() bool { return b.status(t, 0) == "FINISHED" }, 10*time.Second, time.Millisecond)
	})
	t.Run("CallbacksWaitForTheBackend", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(c *Config) { c.BackendURL = "" })
		b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
		require.NoError(t, b.Stop(t.Context()))
		b.Suite = b.start(t)
		require.Empty(t, b.backend.calls)
		b.SetBackend(b.backend.URL + "/")
		require.Equal(t, "PATCH /cohort/dated-measures/d1/", b.backend.next(t).Path)
	})
	t.Run("CohortsKeepTheirMembersAndIDs", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
		first := b.backend.next(t).Body
		require.NoError(t, b.Stop(t.Context()))
		b.Suite = b.start(t)
		id, err := strconv.ParseInt(first["group.id"].(string), 10, 64)
		require.NoError(t, err)
		members, err := b.Lists().PatientsOf(id)
		require.NoError(t, err)
		require.Equal(t, first["group.count"], strconv.Itoa(members.Count()))
		b.post(t, "create", "c2", fmt.Sprintf(women, "c2"), "")
		second := b.backend.next(t)
		for !strings.Contains(second.Path, "c2") { // a stop in the middle of a callback lets it come twice
			second = b.backend.next(t)
		}
		require.Equal(t, strconv.FormatInt(id+1, 10), second.Body["group.id"])
	})
	t.Run("AnotherHospitalIsRefused", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.cfg.Patients++
		_, err := New(b.cfg)
		require.ErrorContains(t, err, "use another directory")
	})
}

func TestAPortThatIsTakenStopsTheStart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cfg := b.cfg
	cfg.Dir = t.TempDir()
	cfg.Listen.SMTP = b.Addresses().SMTP
	s, err := New(cfg)
	require.NoError(t, err)
	require.Error(t, s.Start(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, b.Stop(t.Context()))
	require.NoError(t, s.Start(t.Context()), "the port is free now")
	require.NoError(t, s.Start(t.Context()), "starting twice does nothing")
	require.Equal(t, cfg.Listen.SMTP, s.Addresses().SMTP)
	require.NoError(t, s.Stop(t.Context()))
	require.Equal(t, Addresses{}, s.Addresses())
}

func TestTheJobsSayWhatTheStraightLoopSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	nonzero := 0
	for range 60 {
		next := 0
		document := map[string]any{"_type": "request", "sourcePopulation": map[string]any{"caresiteCohortList": []int64{b.Hospital().Perimeters()[rnd.IntN(3)].CohortID}},
			"request": randomGroup(rnd, &next, 0)}
		text, err := json.Marshal(document)
		require.NoError(t, err)
		want, err := b.Evaluate(string(text))
		require.NoError(t, err, "%s", text)
		got, _, err := b.qe.Evaluate(t.Context(), b.translated(t, document), "")
		require.NoError(t, err, "%s", text)
		require.Equal(t, want, got, "%s", text)
		if want > 0 {
			nonzero++
		}
	}
	require.Greater(t, nonzero, 30)
}

var randomFilters = [][2]string{{"Patient", "gender=f"}, {"Patient", "active=true&birthdate=le1970-01-01"}, {"Patient", "deceased=true,false&age-day=ge10000"},
	{"Condition", "subject.active=true&code=https://smt.esante.gouv.fr/terminologie-cim-10/|E10-E14,|I10"}, {"Condition", "code=IX&diagnosisType=dp"},
	{"Condition", "code=E119&_filter=(onset-date ge 2019-01-01T00:00:00Z and onset-date le 2025-01-01) or not (onset-date eq \"*\")"},
	{"Encounter", "class=urg&period-start=ge2021-05-01&period-start=lt2026"}, {"Encounter", "length=ge3&status=finished"},
	{"Encounter", "_filter=(period-end ge 2024-01-01) or not (period-end eq \"*\")"}, {"Observation", "code=A0141&value-quantity=ge7.5"},
	{"Observation", "value-quantity=le0,ge0&status=Val&patient.gender=m"}, {"DocumentReference", "type:not=doc-impor&contenttype=text%2Fplain&_text=diabète"},
	{"MedicationRequest", "code=A10,C09AA05&category=sortie"}, {"MedicationAdministration", "dosage-route=iv&context.class=hosp"},
	{"Procedure", "_source=ORBIS&encounter.period-start=ge2022-01-01"}, {"ImagingStudy", "modality=CT,MR&numberOfSeries=ge3"},
	{"IPPList", "identifier.value=8000000001,8000000002,8000000077,8000000100,8000000101"}}

func randomGroup(rnd *rand.Rand, next *int, depth int) map[string]any {
	*next--
	kind := []string{"andGroup", "andGroup", "orGroup", "nAmongM"}[rnd.IntN(4)]
	group := map[string]any{"_type": kind, "_id": *next, "isInclusive": depth == 0 || rnd.IntN(4) > 0}
	operators := []string{"<", "<=", "=", ">=", ">"}
	if kind == "nAmongM" {
		group["nAmongMOptions"] = map[string]any{"n": 1 + rnd.IntN(2), "operator": operators[rnd.IntN(5)]}
	}
	if kind == "andGroup" && rnd.IntN(3) == 0 {
		group["temporalConstraints"] = []any{map[string]any{"idList": "all", "constraintType": "sameEncounter"}}
	}
	members := []any{}
	for range 1 + rnd.IntN(3) {
		if depth < 2 && rnd.IntN(3) == 0 {
			members = append(members, randomGroup(rnd, next, depth+1))
			continue
		}
		*next--
		filter := randomFilters[rnd.IntN(len(randomFilters))]
		c := map[string]any{"_type": "basicResource", "_id": *next, "isInclusive": rnd.IntN(4) > 0, "resourceType": filter[0], "filterFhir": filter[1]}
		if filter[0] != "Patient" && filter[0] != "IPPList" {
			c["occurrence"] = map[string]any{"n": 1 + rnd.IntN(2), "operator": operators[rnd.IntN(5)], "sameEncounter": rnd.IntN(4) == 0, "sameDay": rnd.IntN(4) == 0}
			if rnd.IntN(3) == 0 {
				c["patientAge"] = map[string]any{"minAge": "30-0-0", "maxAge": "75-6-1"}
			}
		}
		members = append(members, c)
	}
	group["criteria"] = members
	return group
}

// translated is the document as the back-end sends it: with what the FHIR double answers for each filter.
func (b *bundle) translated(t *testing.T, document map[string]any) string {
	t.Helper()
	var walk func(node map[string]any)
	walk = func(node map[string]any) {
		if filter, ok := node["filterFhir"].(string); ok && node["resourceType"] != "IPPList" {
			params, err := hospital.SplitFilter(filter)
			require.NoError(t, err)
			query := make([]string, len(params))
			for i, p := range params {
				query[i] = queryEscape(p.Key) + "=" + queryEscape(p.Value)
			}
			status, answer := b.fhir(t, "/"+node["resourceType"].(string)+"/$query?"+strings.Join(query, "&"))
			require.Equal(t, http.StatusOK, status, "%v", answer)
			node["filterSolr"] = answer["parameter"].([]any)[1].(map[string]any)["valueString"]
		} else if ok {
			node["filterSolr"] = "fq=-meta.security:\"x|NOLIST\"&fq=identifier.value:(" + strings.ReplaceAll(strings.TrimPrefix(filter, "identifier.value="), ",", " ") + ")"
		}
		members, _ := node["criteria"].([]any)
		for _, m := range members {
			walk(m.(map[string]any))
		}
	}
	walk(document["request"].(map[string]any))
	text, err := json.Marshal(document)
	require.NoError(t, err)
	return string(text)
}

func TestMailsAreKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	message := "From: a@example.org\r\nTo: b@example.org\r\nSubject: =?utf-8?q?Votre_cohorte_est_pr=C3=AAte?=\r\n" +
		"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nBonjour\r\n.point\r\n" +
		"--x\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+ZXQ8L2I+\r\n--x--\r\n"
	require.NoError(t, smtp.SendMail(b.Addresses().SMTP, nil, "a@example.org", []string{"b@example.org"}, []byte(message)))
	m, err := b.Inbox().Wait(t.Context(), func(m smtpsim.Mail) bool { return m.Subject == "Votre cohorte est prête" })
	require.NoError(t, err)
	require.Equal(t, []string{"b@example.org"}, m.Recipients)
	require.Equal(t, "Bonjour\n.point", strings.TrimSpace(m.Text))
	require.Equal(t, "<b>et</b>", m.HTML)
	response, err := http.Get(b.Addresses().Control + "/_simulate/mails/1/html")
	require.NoError(t, err)
	defer response.Body.Close()
	html, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "<b>et</b>", string(html))
}

func queryEscape(s string) string { return url.QueryEscape(s) }

func sendMail(b *bundle, subject string) error {
	return smtp.SendMail(b.Addresses().SMTP, nil, "a@example.org", []string{"b@example.org"}, []byte("Subject: "+subject+"\r\n\r\nhello\r\n"))
}
