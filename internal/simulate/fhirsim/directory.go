package fhirsim

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

// read answers one resource.
func (s *Server) read(w http.ResponseWriter, r *http.Request) {
	name, id := r.PathValue("type"), r.PathValue("id")
	var found object
	switch name {
	case "Organization":
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			if i, ok := s.h.PerimeterByID(n); ok {
				found = s.organization(i)
			}
		}
	case "Group", "List":
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			list, err := s.cfg.Lists.Get(n)
			if err != nil && !errors.Is(err, hospital.ErrNoList) {
				refuse(w, http.StatusInternalServerError, "exception", err.Error())
				return
			}
			if err == nil {
				found = s.list(name, list, true)
			}
		}
	case "Practitioner":
		for _, p := range s.cfg.Practitioners {
			if p.ID == id {
				found = practitioner(p)
			}
		}
	default:
		if k, ok := hospital.KindOf(name); ok {
			if i, ok := s.h.IndexOf(k, id); ok {
				found = s.render(k, i)
			}
		}
	}
	if found == nil {
		refuse(w, http.StatusNotFound, "not-found", name+"/"+id+" is not known")
		return
	}
	answer(w, http.StatusOK, found)
}

// searchOrganizations answers the perimeters, parents first, as the synchronisation of perimeters reads them.
func (s *Server) searchOrganizations(w http.ResponseWriter, r *http.Request, p paging) {
	var found []int32
	for i, o := range s.h.Perimeters() {
		id := strconv.FormatInt(o.ID, 10)
		keep := p.ids == nil || slices.Contains(p.ids, id)
		for _, param := range p.rest {
			switch param.Key {
			case "active":
				keep = keep && param.Value == "true"
			case "name":
				keep = keep && strings.Contains(strings.ToLower(o.Name), strings.ToLower(param.Value))
			case "partof":
				parent := strings.TrimPrefix(param.Value, "Organization/")
				keep = keep && o.Parent >= 0 && strconv.FormatInt(s.h.Perimeters()[o.Parent].ID, 10) == parent
			default:
				refuse(w, http.StatusBadRequest, "invalid", "cannot search Organization by "+param.Key)
				return
			}
		}
		if keep {
			found = append(found, int32(i))
		}
	}
	resources := []any{}
	for _, i := range window(found, p) {
		resources = append(resources, s.organization(i))
	}
	s.bundle(w, r, p, len(found), resources)
}

func (s *Server) organization(i int32) object {
	p := s.h.Perimeters()[i]
	r := object{"resourceType": "Organization", "id": strconv.FormatInt(p.ID, 10), "active": true, "name": p.Name,
		"alias": []string{p.ShortName}, "type": []object{{"text": p.Type}}, "identifier": []object{{"value": p.LocalID}}}
	if p.Parent >= 0 {
		r["partOf"] = reference("Organization", strconv.FormatInt(s.h.Perimeters()[p.Parent].ID, 10))
	}
	return r
}

// searchLists answers stored cohorts as Group or List resources, without their members.
func (s *Server) searchLists(w http.ResponseWriter, r *http.Request, name string, p paging) {
	found := s.cfg.Lists.All()
	if ids := append(p.ids, p.lists...); ids != nil {
		found = found[:0]
		for _, text := range ids {
			if id, err := strconv.ParseInt(text, 10, 64); err == nil {
				if list, err := s.cfg.Lists.Get(id); err == nil {
					found = append(found, list)
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b hospital.List) int { return cmp.Compare(a.ID, b.ID) })
	resources := []any{}
	for _, list := range window(found, p) {
		resources = append(resources, s.list(name, list, false))
	}
	s.bundle(w, r, p, len(found), resources)
}

// membersMost bounds the members that a read of a cohort names; searches by _list page through all of them.
const membersMost = 1000

func (s *Server) list(name string, list hospital.List, members bool) object {
	r := object{"resourceType": name, "id": strconv.FormatInt(list.ID, 10)}
	key := "member"
	if name == "Group" {
		r["name"], r["type"], r["actual"], r["active"], r["quantity"] = list.Title, "person", true, list.Indexed, list.Members.Count()
	} else {
		key = "entry"
		r["title"], r["status"], r["mode"] = list.Title, "current", "snapshot"
	}
	if !members {
		return r
	}
	entries := []object{}
	list.Members.Each(func(i int32) bool {
		of := reference(list.Kind.String(), hospital.RecordID(list.Kind, i))
		if name == "Group" {
			entries = append(entries, object{"entity": of})
		} else {
			entries = append(entries, object{"item": of})
		}
		return len(entries) < membersMost
	})
	r[key] = entries
	return r
}

// searchPractitioners answers users by identifier, with their roles (contract: peers.md 3.3).
func (s *Server) searchPractitioners(w http.ResponseWriter, r *http.Request, p paging) {
	wanted := map[string]bool{}
	for _, param := range p.rest {
		if param.Key != "identifier" {
			refuse(w, http.StatusBadRequest, "invalid", "cannot search Practitioner by "+param.Key)
			return
		}
		for name := range strings.SplitSeq(param.Value, ",") {
			wanted[name[strings.LastIndexByte(name, '|')+1:]] = true
		}
	}
	withRoles := strings.Contains(r.URL.Query().Get("_revinclude"), "PractitionerRole")
	resources, total := []any{}, 0
	for _, user := range s.cfg.Practitioners {
		if len(wanted) > 0 && !wanted[user.Username] {
			continue
		}
		total++
		resources = append(resources, practitioner(user))
		for _, role := range user.Roles {
			if withRoles {
				resources = append(resources, roleResource(user, role))
			}
		}
	}
	p.count = max(p.count, total) // all at once, as the real one does
	s.bundle(w, r, p, total, resources)
}

func practitioner(p Practitioner) object {
	return object{"resourceType": "Practitioner", "id": p.ID, "active": true, "identifier": []object{{"value": p.Username}}}
}

func roleResource(p Practitioner, role Role) object {
	r := object{"resourceType": "PractitionerRole", "id": role.ID, "active": role.Active, "code": []object{concept("", role.Code, "")},
		"practitioner": reference("Practitioner", p.ID), "organization": reference("Organization", strconv.FormatInt(role.Perimeter, 10))}
	span := object{}
	if role.Start != "" {
		span["start"] = role.Start
	}
	if role.End != "" {
		span["end"] = role.End
	}
	r["period"] = span
	return r
}
