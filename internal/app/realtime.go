package app

import (
	"context"
	"errors"
	"strconv"
	"time"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/lifecycle"
	"cohortflow/internal/platform/realtime"
)

const (
	// eventsChannel carries the numbers of new events between processes; a lost one only delays.
	eventsChannel = "cohortflow:events"
	// kindMaintenance marks the announcements about maintenance phases.
	kindMaintenance = "maintenance"
	evOn, evOver    = engine.EventName("on"), engine.EventName("over")
	// welcomeSince is how far back a new websocket is told its user's final results.
	welcomeSince = 5 * time.Minute
	welcomeMost  = 50
	// followAtOnce is how many events are read by one query.
	followAtOnce = 500
)

func (a *App) buildRealtime() {
	a.hub = realtime.NewHub(realtime.Config{Log: a.log, GreetWithin: a.cfg.Auth.SocketGreetingWithin, Identify: a.identify, Welcome: a.welcome})
	a.follower = realtime.NewFollower(realtime.FollowerConfig[engine.Entry]{Log: a.log, Deliver: a.deliver,
		Begin: func(ctx context.Context) (func(context.Context) ([]engine.Entry, error), error) {
			last, err := a.parts.engine.LastEvent(ctx)
			if err != nil {
				return nil, err
			}
			follower := a.parts.engine.Follow(last)
			return func(ctx context.Context) ([]engine.Entry, error) { return follower.Next(ctx, followAtOnce) }, nil
		}})
}

// identify is realtime's question whose token a greeting holds. Keys of machines are not accepted (system.md 10.2).
func (a *App) identify(ctx context.Context, token, method, impersonate string) (username string, known bool, err error) {
	if method != "JWT" && (method != "OIDC" || a.parts.auth.OIDC == nil) {
		return "", false, nil
	}
	caller, err := a.parts.auth.Identify(ctx, token, method, impersonate)
	if errors.As(err, &fault.Forbidden{}) { // an impersonation that is refused
		return "", true, nil
	}
	if err != nil || caller.Key != "" {
		return "", true, err
	}
	if caller.RealUsername != caller.Username { // what is no request leaves no row in the request log
		a.log.InfoContext(ctx, "a websocket impersonates", "user", caller.RealUsername, "impersonating", caller.Username)
	}
	return caller.Username, true, nil
}

// welcome are the user's latest final results: the front-end does not ask for them again after a gap.
func (a *App) welcome(ctx context.Context, username string) ([]any, error) {
	entries, err := a.parts.engine.EndedSince(ctx, username, a.opts.Clock.Now().Add(-welcomeSince), welcomeMost)
	if err != nil {
		return nil, err
	}
	var messages []any
	for _, e := range entries {
		message, err := a.parts.cohort.Message(ctx, e)
		if err != nil {
			return messages, err
		}
		if message != nil {
			messages = append(messages, message)
		}
	}
	return messages, nil
}

// deliver hands one event to the websockets it concerns in this process.
func (a *App) deliver(ctx context.Context, e engine.Entry) error {
	if e.Kind == kindMaintenance {
		return a.deliverMaintenance(ctx, e)
	}
	if e.Owner == "" || !a.hub.Connected(e.Owner) {
		return nil
	}
	message, err := a.parts.cohort.Message(ctx, e)
	if err != nil || message == nil {
		return err
	}
	a.hub.Send(e.Owner, message)
	return nil
}

func (a *App) deliverMaintenance(ctx context.Context, e engine.Entry) error {
	id, err := strconv.ParseInt(e.Subject, 10, 64)
	if err != nil {
		return err
	}
	notice, err := a.parts.maintenance.Message(ctx, id, e.Event == evOn)
	if err != nil || notice == nil {
		return err
	}
	a.hub.Broadcast(*notice)
	return nil
}

// broadcastMaintenance tells all processes; each reads the phase and tells its websockets.
func (a *App) broadcastMaintenance(ctx context.Context, phaseID int64, active bool) error {
	event := evOver
	if active {
		event = evOn
	}
	return a.parts.engine.Announce(ctx, kindMaintenance, strconv.FormatInt(phaseID, 10), event, "")
}

// announce tells the followers of all processes that there is something to read: this one directly, others by a message
// that is sent in the background and may be lost.
func (a *App) announce(event int64) {
	if a.follower != nil {
		a.follower.Nudge()
	}
	select {
	case a.outgoing <- event:
	default: // one is on its way; it makes others read this event too
	}
}

// nudger sends and receives the messages about new events.
type nudger struct {
	lifecycle.Base
	app *App
}

func (a *App) nudges() lifecycle.Service {
	return &nudger{Base: lifecycle.Base{Log: a.log, Name: "nudges"}, app: a}
}

// Start implements lifecycle.Service.
func (n *nudger) Start(ctx context.Context) error {
	loops := []func(context.Context){n.send}
	if n.app.follower != nil {
		loops = append(loops, n.receive)
	}
	return n.Go(ctx, loops...)
}

func (n *nudger) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-n.app.outgoing:
			sending, cancel := context.WithTimeout(ctx, time.Second)
			err := n.app.queue.Redis().Publish(sending, eventsChannel, event).Err()
			cancel()
			if err != nil && ctx.Err() == nil {
				n.Log.DebugContext(ctx, "nudges: not sent", "error", err)
			}
		}
	}
}

func (n *nudger) receive(ctx context.Context) {
	sub := n.app.queue.Redis().Subscribe(ctx, eventsChannel)
	defer func() { _ = sub.Close() }()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-messages:
			if !open {
				return
			}
			n.app.follower.Nudge()
		}
	}
}
