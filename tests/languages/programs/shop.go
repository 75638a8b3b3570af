// Decides and reports in Go, with gRPC as old as 1.33; since 1.63 one writes grpc.NewClient and insecure.NewCredentials.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	tilbud "tilbud/v1"
)

func main() {
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	decisions := tilbud.NewDecisionServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	decision, err := decisions.Decide(ctx, &tilbud.DecideRequest{
		Campaign: "shop",
		Context:  &tilbud.Context{Device: "mobile"},
	})
	if err != nil {
		log.Fatal(err)
	}
	reported, err := decisions.ReportOutcome(ctx, &tilbud.ReportOutcomeRequest{
		Campaign:   "shop",
		DecisionId: decision.DecisionId,
		Outcome:    "purchase",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(decision.OfferId, decision.Probability, reported.Status)
}
