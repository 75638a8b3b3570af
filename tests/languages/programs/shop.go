// Decides and reports in Go, with gRPC as old as 1.33. Since 1.63 one writes grpc.NewClient for grpc.Dial, and
// grpc.WithTransportCredentials(insecure.NewCredentials()) for grpc.WithInsecure().
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"time"

	tilbud "example.com/shop/tilbud/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const retries = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "tilbud.v1.DecisionService"}],
    "waitForReady": true,
    "retryPolicy": {
      "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"]
    }
  }]
}`

// newID makes an id that says nothing of anybody; with it, a repeated call is the same decision.
func newID() string {
	bits := make([]byte, 16)
	if _, err := rand.Read(bits); err != nil {
		log.Fatal(err)
	}
	return hex.EncodeToString(bits)
}

func main() {
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure(), grpc.WithDefaultServiceConfig(retries))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	decisions := tilbud.NewDecisionServiceClient(connection)

	ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
	decision, err := decisions.Decide(ctx, &tilbud.DecideRequest{
		Campaign:   "shop",
		DecisionId: newID(),
		Context: &tilbud.Context{
			Device: "mobile",
			Features: map[string]*tilbud.FeatureValue{
				"basket_value": {Kind: &tilbud.FeatureValue_Number{Number: 42.5}},
			},
		},
	})
	cancel()
	switch status.Code(err) {
	case codes.OK:
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled, codes.Internal:
		decision = &tilbud.DecideResponse{OfferId: "house"} // the service is away: what is shown without it
	default:
		log.Fatal(err) // the question is wrong
	}
	fmt.Print(decision.OfferId, " ", decision.Probability)

	if decision.Recorded { // else there is nothing to report against
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		reported, err := decisions.ReportOutcome(ctx, &tilbud.ReportOutcomeRequest{
			Campaign:   "shop",
			DecisionId: decision.DecisionId,
			Outcome:    "purchase",
		})
		if err != nil {
			log.Fatal(err) // keep the outcome, and report it later: it counts once
		}
		fmt.Println("", reported.Status)
	}
}
