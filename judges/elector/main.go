// A contender for a Lease that elects as programs in Go do: with client-go's own leader election. Around it, it moves an
// address as a Go agent in ARP mode does: the commands of --on-stop run at the start (an address of a former life goes)
// and after the Lease was released, those of --on-start when it leads. It ends when it has lost the Lease, for its
// supervisor to start it again; SIGKILL leaves the address where it is.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// What the program ends with when it lost the Lease without being told to stop.
const lost = 3

var (
	kubeconfig = flag.String("kubeconfig", "", "kubeconfig file")
	lease      = flag.String("lease", "", "namespace/name of the Lease")
	id         = flag.String("id", "", "identity of this contender")
	duration   = flag.Int("duration", 15, "lease duration, seconds")
	renew      = flag.Int("renew", 10, "renew deadline, seconds")
	retry      = flag.Int("retry", 2, "retry period, seconds")
	onStart    = flag.String("on-start", "true", "shell command when it leads")
	onStop     = flag.String("on-stop", "true", "shell command at the start, and when it no longer leads")
)

func main() {
	flag.Parse()
	namespace, name, found := strings.Cut(*lease, "/")
	if !found || *id == "" {
		fail("give --lease NAMESPACE/NAME and --id NAME")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fail("reading %s: %v", *kubeconfig, err)
	}
	// What the API server of the lab speaks; the objects are the same in protobuf.
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		fail("making a client: %v", err)
	}
	told, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	shell(*onStop)
	elect(told, &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: *id},
	})
	if told.Err() == nil {
		say("lost the lease")
		os.Exit(lost)
	}
	say("stopped")
}

// elect takes part until told to stop or until the Lease was lost.
func elect(told context.Context, lock *resourcelock.LeaseLock) {
	// The two commands never overlap, and nothing is started after the end.
	var turn sync.Mutex
	leaderelection.RunOrDie(told, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		ReleaseOnCancel: true,
		LeaseDuration:   seconds(duration),
		RenewDeadline:   seconds(renew),
		RetryPeriod:     seconds(retry),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leads context.Context) {
				turn.Lock()
				defer turn.Unlock()
				if leads.Err() == nil {
					say("leads")
					shell(*onStart)
				}
			},
			// client-go has released the Lease when it calls this.
			OnStoppedLeading: func() {
				turn.Lock()
				defer turn.Unlock()
				say("has released")
				shell(*onStop)
			},
			OnNewLeader: func(leader string) { say("sees that %q leads", leader) },
		},
	})
}

func seconds(count *int) time.Duration { return time.Duration(*count) * time.Second }

func shell(command string) {
	if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
		say("`%s`: %v: %s", command, err, out)
	}
}

func say(format string, values ...any) {
	now := time.Now().UTC().Format("15:04:05.000000")
	fmt.Fprintf(os.Stderr, "%s elector %s: %s\n", now, *id, fmt.Sprintf(format, values...))
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "elector: "+format+"\n", values...)
	os.Exit(2)
}
