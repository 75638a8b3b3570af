// Decides and reports in Node, from the proto files as they lie, without generated code.
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, proto] = process.argv.slice(2);
const definition = loader.loadSync("tilbud/v1/decisions.proto", {
  includeDirs: [proto],
  enums: String,
  keepCase: true,
});
const { DecisionService } = grpc.loadPackageDefinition(definition).tilbud.v1;
const client = new DecisionService(address, grpc.credentials.createInsecure());
const call = (method, request) =>
  promisify(client[method].bind(client))(request, { deadline: Date.now() + 60_000 });

const decision = await call("Decide", { campaign: "shop", context: { device: "mobile" } });
const reported = await call("ReportOutcome", {
  campaign: "shop",
  decision_id: decision.decision_id,
  outcome: "purchase",
});
console.log(decision.offer_id, decision.probability, reported.status);
client.close();
