package demo

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tell shows what the system told while the steps before went on, and what it wrote down.
func (p *player) tell(ctx context.Context) error {
	if err := p.mails(ctx); err != nil {
		return err
	}
	if err := p.messages(ctx); err != nil {
		return err
	}
	return p.timelines(ctx)
}

// due is a mail that must arrive, once: one whose subject has all these parts, and whose text has the words.
type due struct {
	what    string
	subject []string
	text    string
	times   int
}

func (d due) fits(m Mail) bool {
	for _, part := range d.subject {
		if !strings.Contains(m.Subject, part) {
			return false
		}
	}
	return strings.Contains(m.Text, d.text)
}

// dues are the mails about the large cohort and the exports (contract: cohort.md 21, exports.md 22).
func (p *player) dues() []due {
	return []due{
		{"the large cohort", []string{"Votre cohorte est prête"}, p.large.name, 1},
		{"the reception of the exports", []string{p.small.name, "reçue"}, "", len(p.exports)},
		{"the end of the exports", []string{p.small.name, "terminé"}, "", len(p.exports)},
	}
}

// mails waits for all mails that are due. More than are due is a deviation, too: nobody is told twice.
func (p *player) mails(ctx context.Context) error {
	for {
		missing, arrived := "", p.newMails()
		for _, d := range p.dues() {
			have := 0
			for _, m := range arrived {
				if d.fits(m) {
					have++
				}
			}
			if have > d.times {
				return fmt.Errorf("%d mails came about %s, where %d were due", have, d.what, d.times)
			}
			if have < d.times {
				missing = d.what
			}
		}
		if missing == "" {
			for _, m := range arrived {
				p.out.line("mail", "to %s: %s", p.me.DisplayName, m.Subject)
			}
			return nil
		}
		if err := pause(ctx, nil, p.wait.poll); err != nil {
			return fmt.Errorf("wait for the mails about %s: %w", missing, err)
		}
	}
}

func (p *player) newMails() []Mail {
	all := p.cfg.Mails(p.me.Email)
	return all[min(p.mailsBefore, len(all)):]
}

// messages shows what the websocket told about the demo's rows. A count and a cohort whose end it never told is a
// deviation: the front-end would wait for ever.
func (p *player) messages(ctx context.Context) error {
	var rows [][]string
	for _, j := range p.jobs {
		if j.kind == "export" {
			continue
		}
		if err := p.heard(ctx, j); err != nil {
			return err
		}
		all, _, _ := p.socket.about(j.subject)
		ends := 0
		for _, m := range all {
			rows = append(rows, []string{m.JobName, short(m.UUID), m.Status, result(m)})
			if final(m.Status) {
				ends++
			}
		}
		if ends > 1 {
			return fmt.Errorf("the websocket told the end of the %s %s %d times", j.kind, j.subject, ends)
		}
	}
	p.out.rows("websocket", rows)
	return nil
}

// heard waits for the message about a job's end.
func (p *player) heard(ctx context.Context, j job) error {
	for {
		_, came, arrived, ended := p.socket.last(j.subject)
		if came {
			return nil
		}
		if ended != nil {
			return fmt.Errorf("%w the end of the %s %s: %w", errSilent, j.kind, j.subject, ended)
		}
		if err := pause(ctx, arrived, time.Minute); err != nil {
			return fmt.Errorf("%w the end of the %s %s: %w", errSilent, j.kind, j.subject, err)
		}
	}
}

func result(m message) string {
	switch {
	case m.Info.Measure != nil:
		return strconv.Itoa(*m.Info.Measure) + " patients"
	case m.Info.ResultSize != nil && m.Info.GroupID != "":
		return strconv.Itoa(*m.Info.ResultSize) + " patients, list " + m.Info.GroupID
	}
	return m.Info.FailMsg
}

// short is the beginning of a uuid, enough to tell rows of one demo apart.
func short(uuid string) string { return uuid[:min(8, len(uuid))] }

// job is one of the demo's jobs, as the system shows it to its owner.
type job struct {
	kind, subject string // as the demo expects it

	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Owner   string `json:"owner"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
}

// line is one of a job's timeline.
type line struct {
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Event   string    `json:"event"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Applied bool      `json:"applied"`
}

// timelines shows what was written down about each job.
func (p *player) timelines(ctx context.Context) error {
	var page struct {
		Results []job `json:"results"`
	}
	if err := p.api.get(ctx, "/jobs/?limit=50", &page); err != nil {
		return err
	}
	for _, j := range page.Results {
		if j.Owner != p.me.Username {
			return fmt.Errorf("the researcher is shown job %s, which is somebody else's", j.ID)
		}
	}
	for _, want := range p.jobs {
		i := slices.IndexFunc(page.Results, func(j job) bool { return j.Subject == want.subject })
		if i < 0 {
			return fmt.Errorf("there is no job about the %s %s", want.kind, want.subject)
		}
		if err := p.timeline(ctx, page.Results[i]); err != nil {
			return fmt.Errorf("job %s (%s): %w", page.Results[i].ID, page.Results[i].Kind, err)
		}
	}
	return nil
}

// timeline prints one job's: it must have ended once, and a large cohort by the indexer.
func (p *player) timeline(ctx context.Context, j job) error {
	if j.State != "finished" {
		return fmt.Errorf("it is %s: %s", j.State, j.Reason)
	}
	var lines []line
	if err := p.api.get(ctx, "/jobs/"+j.ID+"/events/", &lines); err != nil {
		return err
	}
	var rows [][]string
	endings, endedBy := 0, ""
	for _, l := range lines {
		to := l.To
		if !l.Applied {
			to = "changed nothing"
		} else if l.To == "finished" && l.From != l.To {
			endings++
			endedBy = l.Actor
		}
		rows = append(rows, []string{moment(l.At), fmt.Sprintf("+%d ms", l.At.Sub(lines[0].At).Milliseconds()), l.Event, to, "by " + l.Actor})
	}
	switch {
	case endings != 1:
		return fmt.Errorf("its timeline has %d endings, not one", endings)
	case j.Subject == p.large.UUID && endedBy != "solr-etl":
		return fmt.Errorf("the large cohort was ended by %s, not by the indexer", endedBy)
	}
	p.out.line(j.Kind, "%s is %s", short(j.Subject), j.State)
	p.out.rows("", rows)
	return nil
}
