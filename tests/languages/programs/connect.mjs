// Decides and reports in Node by connect-es, over gRPC, with what protoc-gen-es generates.
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { DecisionService, OutcomeStatus } from "./gen/tilbud/v1/decisions_pb.js";

const [address] = process.argv.slice(2);
const decisions = createClient(DecisionService, createGrpcTransport({ baseUrl: `http://${address}` }));
const patience = { timeoutMs: 60_000 };

const decision = await decisions.decide({ campaign: "shop", context: { device: "mobile" } }, patience);
const reported = await decisions.reportOutcome(
  { campaign: "shop", decisionId: decision.decisionId, outcome: "purchase" },
  patience,
);
console.log(decision.offerId, decision.probability, OutcomeStatus[reported.status]);
process.exit(0); // the connection would be kept for a while
