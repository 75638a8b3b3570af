// Decides and reports in Node over gRPC, from the proto files as they lie, without generated code.
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address = "127.0.0.1:50051", proto = "proto"] = process.argv.slice(2);
const definition = loader.loadSync("tilbud/v1/decisions.proto", {
  includeDirs: [proto],
  enums: String,
  keepCase: true,
});
const { DecisionService } = grpc.loadPackageDefinition(definition).tilbud.v1;
const retries = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: "tilbud.v1.DecisionService" }],
      waitForReady: true,
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
};
const client = new DecisionService(address, grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(retries),
});
const call = (method, request, timeout_ms) =>
  promisify(client[method].bind(client))(request, { deadline: Date.now() + timeout_ms });

const { UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, CANCELLED, INTERNAL } = grpc.status;
const away = [UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, CANCELLED, INTERNAL];
const question = {
  campaign: "shop",
  decision_id: randomUUID(), // with it, a repeated call is the same decision
  context: { device: "mobile", features: { basket_value: { number: 42.5 } } },
};
const decision = await call("Decide", question, 250).catch((error) => {
  if (!away.includes(error.code)) throw error; // the question is wrong
  return { offer_id: "house", recorded: false }; // the service is away: what is shown without it
});
let status = "nothing to report against";
if (decision.recorded) {
  // Where this fails, keep the outcome and report it later: it counts once.
  const outcome = { campaign: "shop", decision_id: decision.decision_id, outcome: "purchase" };
  ({ status } = await call("ReportOutcome", outcome, 10_000));
}
console.log(decision.offer_id, decision.probability, status);
client.close();
