package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The keys that the two front-ends read of an answer, with what they must be: s a text, n a number, b a truth value, l a
// list, o an object; with ? also null (clients.md, by section).
const (
	userKeys = "username:s firstname:s? lastname:s? email:s? display_name:s created_by:s? updated_by:s?"
	roleKeys = "id:n name:s help_text:l right_full_admin:b right_manage_users:b right_manage_datalabs:b right_read_datalabs:b " +
		"right_manage_admin_accesses_same_level:b right_manage_admin_accesses_inferior_levels:b right_manage_data_accesses_same_level:b " +
		"right_manage_data_accesses_inferior_levels:b right_read_patient_nominative:b right_read_patient_pseudonymized:b right_search_patients_by_ipp:b " +
		"right_search_opposed_patients:b right_search_patients_unlimited:b right_export_jupyter_nominative:b right_export_jupyter_pseudonymized:b right_export_csv_xlsx_nominative:b"
	accessKeys    = "id:n profile:o perimeter:o role:o actual_start_datetime:s actual_end_datetime:s created_by:s? updated_by:s? is_valid:b editable:b"
	perimeterKeys = "id:n name:s source_value:s parent_id:ns? type:s above_levels_ids:s? inferior_levels_ids:s? cohort_id:s? cohort_size:s? full_path:s?"
	readKeys      = "perimeter:o read_role:s right_read_patient_nominative:b right_read_patient_pseudonymized:b right_search_patients_by_ipp:b"
	folderKeys    = "uuid:s name:s description:s? created_at:s requests_count:n"
	requestKeys   = "uuid:s name:s description:s? shared_by:s? updated_at:s parent_folder:o query_snapshots:l"
	snapshotKeys  = "uuid:s created_at:s version:n name:s? serialized_query:s request:s dated_measures:l"
	measureKeys   = "uuid:s created_at:s request_job_status:s count_outdated:b cohort_limit:n? extra:o? measure:n? request_job_fail_msg:s?"
	cohortKeys    = "uuid:s name:s description:s? favorite:b request:o request_query_snapshot:s parent_cohort:o? group_id:s request_job_status:s request_job_fail_msg:s? " +
		"result_size:n? measure_min:n? measure_max:n? created_at:s exportable:b sampling_ratio:n? sample_cohorts:l"
	filterKeys  = "uuid:s name:s filter:s fhir_resource:s created_at:s"
	exportKeys  = "uuid:s cohort_id:s? cohort_name:s? target_name:s? target_datalab:s? patients_count:n? owner:s output_format:s created_at:s modified_at:s request_job_status:s"
	phaseKeys   = "id:n start_datetime:s end_datetime:s type:s subject:s message:s? active:b"
	contentKeys = "id:n created_at:s modified_at:s content_type:s title:s content:s page:s metadata:o"
	logKeys     = "id:n requested_at:s method:s view_method:s? status_code:n? user_details:o? user:s? path:s response_ms:n view:s? remote_addr:s? host:s data:s? response:s? errors:s?"
)

// calls are the reading calls of the two front-ends; {x} is the owner's row of that kind. keys are those of the answer or,
// with list, of each of its items, of which there is one at least; with page they are in an envelope.
var calls = []struct{ as, path, form, keys string }{
	{"owner", "/maintenances/next/", "", "active:b type:s message:s? maintenance_start:s? maintenance_end:s? subject:s"},
	{"owner", "/accesses/accesses/my-accesses/", "list", "start_datetime:s end_datetime:s profile:o perimeter:o role:o is_valid:b"},
	{"owner", "/accesses/accesses/my-accesses/?expiring=true", "list", "start_datetime:s end_datetime:s profile:s perimeter:s"},
	{"owner", "/accesses/perimeters/patient-data/rights/", "page", readKeys},
	{"owner", "/accesses/perimeters/patient-data/rights/?limit=-1&type_source_value=hospital,unit&cohort_id=1002", "page", readKeys},
	{"owner", "/accesses/perimeters/patient-data/rights/?limit=-1&type_source_value=&local_id=2,3", "page", readKeys},
	{"owner", "/accesses/perimeters/?type_source_value=hospital&limit=-1&local_id=2", "page", perimeterKeys},
	{"owner", "/accesses/perimeters/?limit=-1&cohort_id=1002,1003", "page", perimeterKeys},
	{"owner", "/accesses/accesses/my-data-rights/?perimeters_ids=2", "list", "perimeter_id:n right_read_patient_nominative:b right_search_patients_by_ipp:b"},
	{"owner", "/webcontent/contents/?ordering=-created_at&content_type=BANNER_WARNING,BANNER_ERROR,BANNER_INFO", "page", contentKeys},
	{"owner", "/cohort/folders/?ordering=-created_at&limit=100", "page", folderKeys},
	{"owner", "/cohort/folders/{folder}/", "", folderKeys},
	{"owner", "/cohort/requests/?limit=100&ordering=-updated_at", "page", requestKeys},
	{"owner", "/cohort/requests/?limit=20&ordering=parent_folder&parent_folder={folder}", "page", requestKeys},
	{"owner", "/cohort/requests/{request}/", "", requestKeys},
	{"owner", "/cohort/request-query-snapshots/{snapshot}/", "", snapshotKeys},
	{"owner", "/cohort/dated-measures/{measure}/", "", measureKeys},
	{"owner", "/cohort/cohorts/?is_sample=false&limit=5&ordering=-created_at", "page", cohortKeys},
	{"owner", "/cohort/cohorts/?is_sample=false&limit=20&ordering=-favorite&status=finished,long_pending,pending,started&min_created_at=2024-01-01", "page", cohortKeys},
	{"owner", "/cohort/cohorts/?group_id={group}", "page", cohortKeys},
	{"owner", "/cohort/cohorts/?exportable=true&status=finished&limit=-1", "page", "uuid:s name:s group_id:s"},
	{"owner", "/cohort/cohorts/{cohort}/", "", cohortKeys},
	{"owner", "/cohort/cohorts/cohort-rights/?group_id=,{group},4711", "list", "cohort_id:s rights:o"},
	{"owner", "/cohort/fhir-filters/?fhir_resource=Patient&ordering=-created_at&limit=10&offset=0", "page", filterKeys},
	{"owner", "/exports/fhir-filters/?owner_id=owner&fhir_resource=Patient&ordering=-created_at&limit=1000", "page", filterKeys},
	{"owner", "/exports/?output_format=csv%2Cxlsx&offset=0&owner=owner&ordering=-created_at", "page", exportKeys},
	{"owner", "/users/?manual_only=true&page=1&ordering=lastname&search=owner&with_access=true", "page", "username:s firstname:s? lastname:s? email:s? display_name:s"},

	{"fullAdmin", "/users/?manual_only=true&page=1&ordering=-created_by", "page", userKeys},
	{"fullAdmin", "/users/owner/", "", "username:s firstname:s lastname:s"},
	{"fullAdmin", "/accesses/profiles/?user_id=owner", "page", "id:n source:s? is_active:b"},
	{"fullAdmin", "/accesses/accesses/?page=1&profile_id={profile}&ordering=-is_valid", "page", accessKeys},
	{"fullAdmin", "/accesses/accesses/?perimeter_id=2&include_parents=true&include_children=false&page=1&ordering=perimeter_name&search=owner", "page", accessKeys},
	{"fullAdmin", "/accesses/roles/?ordering=name&limit=100", "page", roleKeys},
	{"fullAdmin", "/accesses/roles/assignable/?perimeter_id=2&limit=100", "list", roleKeys},
	{"fullAdmin", "/accesses/roles/{role}/", "", "name:s"},
	{"fullAdmin", "/accesses/roles/{role}/users/?page=1&order=-lastname", "page", "provider_username:s lastname:s firstname:s perimeter:s start_datetime:s? end_datetime:s?"},
	{"fullAdmin", "/accesses/rights/", "list", "name:s is_global:b rights:l"},
	{"fullAdmin", "/accesses/perimeters/?type_source_value=root", "page", perimeterKeys + " count_allowed_users:n? count_allowed_users_inferior_levels:n? count_allowed_users_above_levels:n?"},
	{"fullAdmin", "/accesses/perimeters/2/", "", "cohort_size:s? count_allowed_users:n? count_allowed_users_inferior_levels:n? count_allowed_users_above_levels:n?"},
	{"fullAdmin", "/accesses/perimeters/1/children/", "page", "id:n names:o type:s cohort_size:s?"},
	{"fullAdmin", "/accesses/perimeters/manageable/", "list", "id:n name:s source_value:s type:s full_path:s?"},
	{"fullAdmin", "/accesses/perimeters/manageable/?search=hospital", "list", "type:s full_path:s"},
	{"fullAdmin", "/logs/?page=1&ordering=-requested_at&status_code=200,500&method=GET,POST", "page", logKeys},
	{"fullAdmin", "/maintenances/?ordering=-start_datetime&page=1&page_size=20", "page", phaseKeys},
	{"fullAdmin", "/webcontent/contents/content_types/", "", "RELEASE_NOTE:o BANNER_INFO:o BANNER_WARNING:o BANNER_ERROR:o"},
	{"fullAdmin", "/webcontent/contents/?ordering=-created_at", "page", contentKeys},
	{"fullAdmin", "/exports/datalabs/?page=1&ordering=-name", "page", "uuid:s name:s created_at:s infrastructure_provider:o"},
	{"fullAdmin", "/exports/infrastructure-providers/", "page", "uuid:s name:s"},
	{"fullAdmin", "/exports/?limit=20&offset=0&ordering=owner&request_job_status=failed", "page", exportKeys},
	{"fullAdmin", "/exports/cohorts/?owner_id=owner&limit=1000", "page", "uuid:s owner:s name:s?"},
	{"fullAdmin", "/exports/fhir-filters/?owner_id=owner&fhir_resource=Patient&identifying=false&ordering=-created_at&limit=1000", "page", filterKeys},
}

// kindOf is the letter of a value.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "s"
	case float64:
		return "n"
	case bool:
		return "b"
	case []any:
		return "l"
	case map[string]any:
		return "o"
	}
	return "?"
}

func holdKeys(t *testing.T, where, keys string, v any) {
	t.Helper()
	object, isObject := v.(map[string]any)
	if !assert.True(t, isObject, "%s: no object: %v", where, v) {
		return
	}
	for key := range strings.FieldsSeq(keys) {
		name, kinds, _ := strings.Cut(key, ":")
		value, there := object[name]
		assert.True(t, there, "%s lacks %s", where, name)
		assert.Contains(t, kinds, kindOf(value), "%s: %s is %v", where, name, value)
	}
}

// Each call finds what its page reads, of the right type: the clients crash on a null that they do not expect.
func TestTheFrontEndsFindWhatTheyRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	for _, call := range calls {
		var fields []string
		for kind, id := range w.ids {
			if kind, own := strings.CutPrefix(kind, "owner."); own {
				fields = append(fields, "{"+kind+"}", id)
			}
		}
		path := strings.NewReplacer(fields...).Replace(call.path)
		a := w.send(as(call.as), http.MethodGet, path, "")
		if !assert.Equal(t, http.StatusOK, a.status, "%s: %s", path, a) {
			continue
		}
		var body any
		require.NoError(t, json.Unmarshal([]byte(a.body), &body), path)
		if call.form == "page" {
			holdKeys(t, path, "count:n next:s? previous:s? results:l", body)
			body = body.(map[string]any)["results"]
		}
		if call.form == "" {
			holdKeys(t, path, call.keys, body)
			continue
		}
		list, _ := body.([]any)
		assert.NotEmpty(t, list, path)
		for _, item := range list {
			holdKeys(t, path, call.keys, item)
		}
	}
}

// What else the two front-ends call. POST /voting/create-issue, whose page is switched off, has never had a route.
const otherCalls = `
	POST /auth/login/, POST /auth/refresh/, POST /auth/logout/, POST /cohort/folders/, PATCH /cohort/folders/:uuid/, DELETE /cohort/folders/:uuid/,
	POST /cohort/requests/, PATCH /cohort/requests/:uuid/, DELETE /cohort/requests/:uuid/, POST /cohort/request-query-snapshots/,
	PATCH /cohort/request-query-snapshots/:uuid/, POST /cohort/request-query-snapshots/:uuid/share/, POST /cohort/dated-measures/,
	POST /cohort/feasibility-studies/, GET /cohort/feasibility-studies/:uuid/download/, POST /cohort/cohorts/, PATCH /cohort/cohorts/:uuid/,
	DELETE /cohort/cohorts/:uuid/, POST /cohort/fhir-filters/, PATCH /cohort/fhir-filters/:uuid/, DELETE /cohort/fhir-filters/:uuid/,
	DELETE /cohort/fhir-filters/delete_multiple/, POST /exports/, GET /exports/:uuid/download/, POST /exports/:uuid/retry/, GET /exports/:uuid/logs/,
	POST /exports/datalabs/, POST /users/, PATCH /users/:username/, GET /users/:username/check/, POST /accesses/accesses/, PATCH /accesses/accesses/:id/,
	PATCH /accesses/accesses/:id/close/, DELETE /accesses/accesses/:id/, POST /accesses/roles/, PATCH /accesses/roles/:id/, DELETE /accesses/roles/:id/,
	POST /maintenances/, PATCH /maintenances/:id/, DELETE /maintenances/:id/, POST /webcontent/contents/, PATCH /webcontent/contents/:id/,
	DELETE /webcontent/contents/:id/, GET /webcontent/contents/:id/`

func TestTheFrontEndsFindTheirRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	routes := map[string]bool{}
	for _, r := range w.app.Routes() {
		routes[r.Method+" "+r.Path] = true
	}
	for call := range strings.SplitSeq(otherCalls, ",") {
		call = strings.TrimSpace(call)
		assert.True(t, routes[call], call)
	}
}
