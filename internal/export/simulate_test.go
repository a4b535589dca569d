package export

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/storage"
	"cohortflow/internal/simulate"
	"cohortflow/internal/simulate/hospital"
)

// simulated starts the doubles of the outside world with a cohort of 300 patients.
func simulated(t *testing.T) (suite *simulate.Suite, group string) {
	t.Helper()
	suite, err := simulate.New(simulate.Config{Log: platformtest.Log(t), Clock: clock.System{}, Dir: t.TempDir(), Patients: 500, ExportToken: "t0ken", HadoopToken: "h4doop"})
	require.NoError(t, err)
	require.NoError(t, suite.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, suite.Stop(context.WithoutCancel(t.Context()))) })
	members := hospital.NewSet(suite.Hospital().Size())
	for i := range int32(300) {
		members.Add(i)
	}
	id, err := suite.Lists().Put(hospital.List{Kind: hospital.Patients, Members: members})
	require.NoError(t, err)
	return suite, strconv.FormatInt(id, 10)
}

// simulatedWorld speaks to the doubles of the suite.
func simulatedWorld(t *testing.T, suite *simulate.Suite, builtIn bool) *world {
	t.Helper()
	client, err := httpclient.New(platformtest.Log(t), httpclient.Config{})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdle)
	at := suite.Addresses()
	return newWorld(t, databasetest.SQLite(t), builtIn, func(c *Config) {
		if builtIn { // into a directory: the simulated HDFS cannot rename files, which is how ours get their names
			c.Source, err = fhir.New(client, fhir.Config{URL: at.FHIR, Credential: fhir.StaticToken("service")})
			require.NoError(t, err)
			return
		}
		c.Files, err = storage.New(storage.Config{Providers: []string{"http://127.0.0.1:1", at.WebHDFS}}, platformtest.Log(t))
		require.NoError(t, err)
		c.API, c.Hadoop = NewAPI(client, at.Export, "t0ken"), NewHadoop(client, at.Hadoop, "h4doop")
	})
}

func TestBuiltInReadsTheSimulatedHospital(t *testing.T) {
	t.Parallel()
	suite, group := simulated(t)
	w := simulatedWorld(t, suite, true)
	mine := w.cohort("alice", group)
	for _, format := range []string{"csv", "xlsx"} {
		for _, grouped := range []bool{false, true} {
			w.clock.Advance(time.Second)
			tables := []object{{"table_name": "person", "cohort_result_source": mine, "columns": []string{"person_id", "ipp", "birth_date"}}}
			for _, name := range []string{"visit_occurrence", "condition_occurrence", "measurement", "cost", "imaging_study", "drug_exposure_administration", "care_site"} {
				tables = append(tables, object{"table_name": name})
			}
			v := w.create("alice", merge(csvOf(mine, tables...), object{"output_format": format, "group_tables": grouped}))
			w.work(0)
			require.Equal(t, "finished", w.get(v.UUID).JobStatus, w.get(v.UUID).JobFailMsg)
			rec := w.record("alice", "GET", "/exports/"+v.UUID.String()+"/download/", nil)
			require.Equal(t, 200, rec.Code)
			files := unzip(t, rec.Body.Bytes())
			if format == "csv" && !grouped {
				require.Len(t, files, len(tables))
				require.Equal(t, 301, strings.Count(string(files["person.csv"]), "\n"))
				for name, content := range files {
					require.Greater(t, strings.Count(string(content), "\n"), 10, name)
				}
				require.Regexp(t, `\n[^,\n]+,\d+,\d{4}-\d\d-\d\d\n`, string(files["person.csv"]))
			} else {
				require.Len(t, files, 1)
			}
		}
	}
}

func TestThirdPartySimulated(t *testing.T) {
	t.Parallel()
	suite, group := simulated(t)
	w := simulatedWorld(t, suite, false)
	mine := w.cohort("alice", group)
	v := w.create("alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine}, object{"table_name": "condition_occurrence"}))
	hive := w.create("alice", hiveOf(mine, nil))
	w.work(12)
	for _, id := range []View{v, hive} {
		require.Equal(t, "finished", w.get(id.UUID).JobStatus, w.get(id.UUID).JobFailMsg)
	}
	rec := w.record("alice", "GET", "/exports/"+v.UUID.String()+"/download/", nil)
	require.Equal(t, 200, rec.Code)
	require.Equal(t, 301, strings.Count(string(unzip(t, rec.Body.Bytes())["person.csv"]), "\n"))
	w.clock.Advance(8 * 24 * time.Hour)
	require.NoError(t, w.service.DeleteExportedFiles(t.Context()))
	_, err := w.service.cfg.Files.Stat(t.Context(), "/csv/"+*v.TargetName+".zip")
	require.ErrorIs(t, err, storage.ErrNotExist)
}
