package qesim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

// outcome is how a job ended well.
type outcome struct {
	Status  string            `json:"status"` // FINISHED or LONG_PENDING
	Count   int               `json:"count"`
	Minimum int               `json:"minimum,omitempty"`
	Maximum int               `json:"maximum,omitempty"`
	GroupID int64             `json:"groupId,omitempty"`
	Extra   map[string]string `json:"extra,omitempty"`
}

var creatable = map[string]bool{"Condition": true, "DocumentReference": true, "Encounter": true, "ImagingStudy": true,
	"MedicationAdministration": true, "MedicationRequest": true, "Observation": true, "Patient": true, "Procedure": true,
	"QuestionnaireResponse": true}

// work carries out what a job asks for. Its error is the message of the callback.
func (s *Server) work(_ context.Context, j *job) (outcome, error) {
	q, err := parseQuery(j.Input.Definition)
	if err != nil {
		return outcome{}, err
	}
	ids, listed, err := q.population()
	if err != nil {
		return outcome{}, err
	}
	if !listed {
		return outcome{}, message("INPUT JSON cannot be processed (missing input 'sourcePopulation' and/or 'request')")
	}
	population, err := s.cfg.Lists.Population(ids)
	if err != nil {
		return outcome{}, fmt.Errorf("source population: %w", err)
	}
	e := newEvaluation(s.cfg.Hospital, population, j.Input.Resolver != "fhir")
	if creates(j.Input.Mode) {
		return s.create(j, q, e)
	}
	return count(j, q, e)
}

func count(j *job, q *query, e *evaluation) (outcome, error) {
	if q.Request == nil {
		if j.Input.Mode != CountAll {
			return outcome{}, message("None.get: request is missing")
		}
		return blurred(j, e.standard.Count()), nil
	}
	if j.Input.Mode == CountDetails {
		among := false
		q.Request.each(func(n *node) { among = among || n.Type == "nAmongM" })
		if among {
			return outcome{}, message("None.get")
		}
	}
	found, err := e.set(q.Request, nil)
	if err != nil {
		return outcome{}, err
	}
	out := outcome{Status: Finished, Count: found.Count(), Extra: map[string]string{}}
	switch j.Input.Mode {
	case Count:
		out.Extra, err = e.details(q.Request, j.Input.Options["details"], found)
	case CountAll:
		out = blurred(j, out.Count)
	case CountDetails:
		for i, p := range e.h.Perimeters() {
			if n := e.h.PatientsOf(int32(i)).And(found).Count(); n > 0 {
				out.Extra[strconv.FormatInt(p.CohortID, 10)] = strconv.Itoa(n)
			}
		}
	}
	return out, err
}

// blurred is a global count with its bounds (contract: peers.md 2.8.2).
func blurred(j *job, n int) outcome {
	rnd := j.chance()
	out := outcome{Status: Finished, Count: n, Maximum: n + 25 + rnd.IntN(25), Extra: map[string]string{}}
	if n > 0 {
		upper := n - 25
		if n <= 26 {
			upper = n
		}
		lower := max(n-50, 0)
		out.Minimum = lower + rnd.IntN(upper-lower)
	}
	return out
}

// chance is a source of numbers of the job's own: a job that is run again after a restart gives the same result.
func (j *job) chance() *rand.Rand {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(j.ID)) // never fails
	return rand.New(rand.NewPCG(sum.Sum64(), 1))
}

// create answers create and create_diff (contract: peers.md 2.8.4, 2.8.5).
func (s *Server) create(j *job, q *query, e *evaluation) (outcome, error) {
	sampling, err := j.sampling()
	if err != nil {
		return outcome{}, err
	}
	if !creatable[q.ResourceType] {
		return outcome{}, message("Resource type not supported")
	}
	kind, members, err := membersOf(q, e)
	if err != nil {
		return outcome{}, err
	}
	if sampling < 1 {
		members = sample(j.chance(), members, sampling, s.cfg.Hospital.Count(kind))
	}
	out := outcome{Status: Finished, Count: members.Count()}
	if out.Count > s.cfg.Limit && kind == hospital.Patients {
		out.Status = LongPending
	}
	list := hospital.List{ID: j.Input.ExistingID, Title: j.Input.Name, Owner: j.Input.Owner, Definition: j.Input.Definition,
		Kind: kind, Members: members, Indexed: out.Status == Finished}
	if list.ID == 0 {
		list.ID = s.alreadyStored(j)
	}
	if out.GroupID, err = s.cfg.Lists.Put(list); err != nil {
		return outcome{}, err
	}
	return out, nil
}

// alreadyStored finds the list of a creation that was interrupted between the list and the note of its end: a restart
// must not make a second one.
func (s *Server) alreadyStored(j *job) int64 {
	if !j.resumed {
		return 0
	}
	for _, list := range s.cfg.Lists.All() {
		if list.Definition == j.Input.Definition && list.Owner == j.Input.Owner {
			return list.ID
		}
	}
	return 0
}

func (j *job) sampling() (float64, error) {
	text := j.Input.Options["sampling"]
	if j.Input.Mode == CreateDiff {
		if j.Input.Options["baseCohortId"] == "" {
			return 0, errors.New("baseCohortId is required for createDiff mode")
		}
		if text != "" {
			return 0, message("Can't use sampling with createDiff mode")
		}
	}
	if text == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || ratio <= 0 || ratio > 1 {
		return 0, message("Sampling value should be between 0 and 1")
	}
	return ratio, nil
}

// membersOf finds what a cohort holds: patients, or the resources that a single criterion finds.
func membersOf(q *query, e *evaluation) (hospital.Kind, *hospital.Set, error) {
	if q.ResourceType == "Patient" {
		if q.Request == nil {
			return hospital.Patients, e.standard, nil
		}
		found, err := e.set(q.Request, nil)
		return hospital.Patients, found, err
	}
	switch {
	case q.Request == nil:
		return 0, nil, message("Request is empty")
	case !q.Request.basic():
		return 0, nil, message("Non-patient resource filter request should be a basic resource")
	}
	n := q.Request
	patients, err := e.criterion(n)
	if err != nil {
		return 0, nil, err
	}
	if n.kind.String() != q.ResourceType {
		return 0, nil, fmt.Errorf("a cohort of %s cannot be made of %s", q.ResourceType, n.ResourceType)
	}
	members := hospital.NewSet(e.h.Count(n.kind))
	patients.Each(func(p int32) bool {
		from, to := e.h.Span(n.kind, p)
		for i := from; i < to; i++ {
			if n.match(e.h.Row(n.kind, i)) {
				members.Add(i)
			}
		}
		return true
	})
	return n.kind, members, nil
}

// sample keeps round(ratio × size) members by chance.
func sample(rnd *rand.Rand, members *hospital.Set, ratio float64, size int) *hospital.Set {
	all := make([]int32, 0, members.Count())
	members.Each(func(i int32) bool {
		all = append(all, i)
		return true
	})
	rnd.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	kept := hospital.NewSet(size)
	for _, i := range all[:int(math.Round(ratio*float64(len(all))))] {
		kept.Add(i)
	}
	return kept
}

// wantedIDs reads the option details: all (nil), or a list of ids.
func wantedIDs(option string) (map[int]bool, error) {
	if strings.Contains(option, "all") {
		return nil, nil
	}
	wanted := map[int]bool{}
	for text := range strings.SplitSeq(option, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return nil, messagef("For input string: \"%s\"", text)
		}
		wanted[id] = true
	}
	return wanted, nil
}

// javaDouble writes a share as Java does: 0.5, 1.0, NaN, 1.0E-4.
func javaDouble(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1e-3:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	text := strconv.FormatFloat(v, 'E', -1, 64)
	digits, exponent, _ := strings.Cut(text, "E-")
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	return digits + "E-" + strings.TrimLeft(exponent, "0")
}
