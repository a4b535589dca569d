package cohort

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
)

// tree makes the perimeters 100 > 200 > 300, and 100 > 400 of a type that is not reported, above 500.
func (b *bundle) tree() {
	b.t.Helper()
	for _, p := range []struct {
		id           int64
		parent       any
		level        int
		kind, called string
	}{{1, nil, 1, "GROUP", "All <of> us"}, {2, 1, 2, "HOSPITAL", "H & H"}, {3, 2, 3, "WARD", "W"}, {4, 1, 2, "OTHER", "O"}, {5, 4, 3, "WARD", "V"}} {
		b.exec(`INSERT INTO accesses_perimeter (id, local_id, name, source_value, cohort_id, parent_id, level, type_source_value, count_allowed_users,
			count_allowed_users_inferior_levels, count_allowed_users_above_levels) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0)`,
			p.id, fmt.Sprint(p.id), p.called, p.called, fmt.Sprint(p.id*100), p.parent, p.level, p.kind)
	}
}

func (b *bundle) study(user, snapshot string) string {
	b.t.Helper()
	id := b.do(user, "POST", "/cohort/feasibility-studies/", o{"request_query_snapshot_id": snapshot, "request_job_status": "finished", "total_count": 5}).is(201).
		has(o{"owner": user, "request_job_status": "new", "total_count": nil, "request_query_snapshot": snapshot}).at("uuid").(string)
	b.work()
	return id
}

// unzip reads the one file of an archive.
func unzip(t *testing.T, raw string) (name, content string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader([]byte(raw)), int64(len(raw)))
	require.NoError(t, err)
	require.Len(t, z.File, 1)
	f, err := z.File[0].Open()
	require.NoError(t, err)
	text, err := io.ReadAll(f)
	require.NoError(t, err)
	return z.File[0].Name, string(text)
}

func TestStudies(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.tree()
		request := b.request("alice")
		b.do("alice", "PATCH", "/cohort/requests/"+request+"/", o{"name": `Étude "a"  b/c d e`}).is(200)
		id := b.study("alice", b.snapshot("alice", request))
		one := "/cohort/feasibility-studies/" + id + "/"
		require.Equal(t, []string{"uuid", "owner", "created_at", "request_job_status", "total_count", "request_query_snapshot"}, b.do("alice", "GET", one, nil).is(200).keys())
		b.do("alice", "GET", one, nil).has(o{"request_job_status": "started"})
		require.Equal(t, "/cohort/feasibility-studies/"+id+"/", b.qe.bodies[0]["callbackPath"])
		require.Equal(t, "count_with_details", b.qe.bodies[0]["mode"])
		require.Contains(t, b.qe.bodies[0]["cohortDefinitionSyntax"], `"sourcePopulation":{"caresiteCohortList":[100]}`)
		require.Equal(t, []string{"requested alice"}, b.told())
		b.do("alice", "GET", one+"download/", nil).is(404).json(`"Report not found"`)

		for range 2 {
			b.callback("feasibility-studies", id, o{"request_job_status": "FINISHED", "count": "1234",
				"extra": o{"100": "1234", "200": "1000", "300": "7", "400": "1", "500": "1", "999": "5"}}).is(200).has(o{"request_job_status": "finished", "total_count": 1234})
		}
		b.callback("feasibility-studies", id, o{"request_job_status": "ERROR", "message": "late"}).is(200).has(o{"request_job_status": "finished"})
		require.Equal(t, []string{"requested alice", "success alice"}, b.told(), "once each")
		require.Empty(t, b.pushed(id))

		download := b.do("alice", "GET", one+"download/", nil).is(200)
		require.Equal(t, "application/zip", download.Header.Get("Content-Type"))
		require.Equal(t, `attachment; filename="Rapport_31-01-2026__tude _a_ b_c d....zip"; filename*=UTF-8''Rapport_31-01-2026_%C3%89tude%20_a_%20b_c%20d....zip`,
			download.Header.Get("Content-Disposition"))
		name, html := unzip(t, download.Text)
		require.Equal(t, "Rapport_31-01-2026_Étude _a_ b_c d....html", name)
		require.Equal(t, 3, strings.Count(html, "<li"))
		require.Equal(t, 3, strings.Count(html, "<input"))
		require.Contains(t, html, `<label for="p100">All &lt;of&gt; us</label><span id="count_p100">1230-1240</span>`)
		require.Contains(t, html, `<span id="count_p300">&lt; 10</span>`)
		require.Contains(t, html, "https://front/cohort/new/"+request)
		var row Study
		require.NoError(t, b.db.Read(t.Context()).Take(&row).Error)
		name, json := unzip(t, string(row.ReportJSONContent))
		require.Equal(t, "Rapport_31-01-2026_Étude _a_ b_c d....json", name)
		require.Equal(t, `{"100": "1230-1240", "200": "1000-1010", "300": "< 10"}`, json)

		b.do("bob", "GET", one+"download/", nil).is(404)
		b.do("", "GET", one+"download/", nil).is(403)
		b.do("bob", "GET", one, nil).is(404).json(`{"detail":"No FeasibilityStudy matches the given query."}`)
		b.do("alice", "PATCH", one, o{"request_job_status": "FINISHED"}).is(403)
		b.do("alice", "DELETE", one, nil).is(405)
		b.do("bob", "GET", "/cohort/feasibility-studies/", nil).has(o{"count": 0})
		b.do("alice", "GET", "/cohort/feasibility-studies/", nil).has(o{"count": 1})
		theirs := b.snapshot("bob", b.request("bob"))
		b.do("alice", "POST", "/cohort/feasibility-studies/", o{"request_query_snapshot": theirs}).is(400)
		b.do("alice", "POST", "/cohort/feasibility-studies/", o{}).is(400).json(`{"request_query_snapshot":["This field is required."]}`)
	})
}

func TestStudyCallbacks(t *testing.T) {
	for name, tt := range map[string]struct {
		body   o
		status int
		answer string
		want   o
		told   []string
	}{
		"Nobody":       {o{"request_job_status": "FINISHED", "count": "0", "extra": o{}}, 200, "", o{"request_job_status": "finished", "total_count": 0}, []string{"requested alice", "success alice"}},
		"NoExtra":      {o{"request_job_status": "FINISHED"}, 200, "", o{"request_job_status": "finished", "total_count": 0}, []string{"requested alice", "success alice"}},
		"Failed":       {o{"request_job_status": "ERROR", "message": "None.get"}, 200, "", o{"request_job_status": "failed", "total_count": nil}, []string{"requested alice", "failure alice"}},
		"Killed":       {o{"request_job_status": "KILLED"}, 200, "", o{"request_job_status": "cancelled"}, []string{"requested alice"}},
		"Unknown":      {o{"request_job_status": "UNKNOWN"}, 200, "", o{"request_job_status": "unknown"}, []string{"requested alice"}},
		"Queued":       {o{"request_job_status": "PENDING"}, 200, "", o{"request_job_status": "pending"}, []string{"requested alice"}},
		"Nonsense":     {o{"request_job_status": "WAT"}, 400, `"Bad Request: Invalid job status: WAT"`, o{"request_job_status": "started"}, []string{"requested alice", "failure alice"}},
		"NoNumber":     {o{"request_job_status": "FINISHED", "count": "abc", "extra": o{"1": "1"}}, 400, `"invalid literal for int() with base 10: 'abc'"`, o{"request_job_status": "started", "total_count": nil}, []string{"requested alice", "failure alice"}},
		"NoNumberHere": {o{"request_job_status": "FINISHED", "count": "1", "extra": o{"1": "x"}}, 400, "", o{"request_job_status": "started"}, []string{"requested alice"}},
		"Huge":         {o{"request_job_status": "FINISHED", "count": "3000000000", "extra": o{}}, 400, "", o{"request_job_status": "started"}, []string{"requested alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *bundle) {
				id := b.study("alice", b.snapshot("alice", b.request("alice")))
				a := b.callback("feasibility-studies", id, tt.body).is(tt.status)
				if tt.answer != "" {
					a.json(tt.answer)
				}
				b.do("alice", "GET", "/cohort/feasibility-studies/"+id+"/", nil).is(200).has(tt.want)
				require.Equal(t, tt.told, b.told())
			})
		})
	}
}

func TestNoStudyWaitsForEver(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		b.fhir.status = 500
		refused := b.study("alice", snapshot)
		b.do("alice", "GET", "/cohort/feasibility-studies/"+refused+"/", nil).has(o{"request_job_status": "failed"})
		require.Equal(t, []string{"failure alice"}, b.told())
		b.fhir.status = 0
		id := b.study("alice", snapshot)
		b.wait(7 * time.Hour)
		b.do("alice", "GET", "/cohort/feasibility-studies/"+id+"/", nil).has(o{"request_job_status": "failed"})
		b.callback("feasibility-studies", id, o{"request_job_status": "FINISHED", "count": "1", "extra": o{}}).is(200).has(o{"request_job_status": "finished"})

		lost := b.study("alice", snapshot)
		b.qe.will(func(w http.ResponseWriter, r *http.Request, _ string) bool {
			_, _ = io.WriteString(w, `{"status":"FINISHED","jobId":"x","result":[{"count":"9","extra":{"100":"9"}}]}`)
			return true
		})
		b.wait(3 * time.Minute)
		b.do("alice", "GET", "/cohort/feasibility-studies/"+lost+"/", nil).has(o{"request_job_status": "finished", "total_count": 9})
	})
}

func TestLetters(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		cohort, snapshot, _ := b.finished("alice", "77", 5)
		study := b.study("alice", snapshot)
		for outcome, job := range map[engine.Outcome]engine.Job{engine.Success: mustJob(t, b, KindCreate, cohort), outcomeRequested: mustJob(t, b, KindStudy, study),
			engine.Failure: mustJob(t, b, KindStudy, study)} {
			letter, err := b.service.Letter(t.Context(), engine.Notification{Outcome: outcome, Recipient: "alice"}, job)
			require.NoError(t, err)
			require.NoError(t, b.mails.Mail(t.Context(), "", "alice", letter))
		}
		require.ElementsMatch(t, []string{"alice: Votre cohorte est prête: <nil>", "alice: Votre demande de rapport: Request", "alice: Votre demande de rapport a échoué: Request"}, b.mails.sent)
		name, group, err := b.service.Title(t.Context(), cohort)
		require.NoError(t, err)
		require.Equal(t, "Cohort 77", name+" "+group)
	})
}
