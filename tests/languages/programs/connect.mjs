// Decides and reports in Node by connect-es with what protoc-gen-es generates: over gRPC, or over HTTP as json or binary.
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { DecisionService, OutcomeStatus } from "./gen/tilbud/v1/decisions_pb.js";

const [baseUrl, protocol] = process.argv.slice(2);
const transport =
  protocol === "grpc"
    ? createGrpcTransport({ baseUrl })
    : createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: protocol === "binary" });
const decisions = createClient(DecisionService, transport);
const patience = { timeoutMs: 60_000 };

const decision = await decisions.decide({ campaign: "shop", context: { device: "mobile" } }, patience);
const reported = await decisions.reportOutcome(
  { campaign: "shop", decisionId: decision.decisionId, outcome: "purchase" },
  patience,
);
console.log(decision.offerId, decision.probability, OutcomeStatus[reported.status]);
process.exit(0); // the connection would be kept for a while
