// Decides and reports in Node by connect-es with what protoc-gen-es generates: over gRPC, or over HTTP as json or binary.
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { DecisionService, OutcomeStatus } from "./gen/tilbud/v1/decisions_pb.js";

const [baseUrl = "http://127.0.0.1:8000", protocol = "json"] = process.argv.slice(2);
const transport =
  protocol === "grpc"
    ? createGrpcTransport({ baseUrl })
    : createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: protocol === "binary" });
const decisions = createClient(DecisionService, transport);

const decision = await decisions.decide(
  { campaign: "shop", decisionId: randomUUID(), context: { device: "mobile" } },
  { timeoutMs: 250 },
);
const reported = await decisions.reportOutcome(
  { campaign: "shop", decisionId: decision.decisionId, outcome: "purchase" },
  { timeoutMs: 10_000 },
);
console.log(decision.offerId, decision.probability, OutcomeStatus[reported.status]);
process.exit(0); // the connection would be kept for a while
