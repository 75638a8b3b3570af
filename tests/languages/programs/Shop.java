// Decides and reports in Java.
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.concurrent.TimeUnit;
import tilbud.v1.Context;
import tilbud.v1.DecideRequest;
import tilbud.v1.DecideResponse;
import tilbud.v1.DecisionServiceGrpc;
import tilbud.v1.ReportOutcomeRequest;
import tilbud.v1.ReportOutcomeResponse;

public final class Shop {
  public static void main(String[] arguments) {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    DecisionServiceGrpc.DecisionServiceBlockingStub decisions =
        DecisionServiceGrpc.newBlockingStub(channel).withDeadlineAfter(1, TimeUnit.MINUTES);

    DecideResponse decision =
        decisions.decide(
            DecideRequest.newBuilder()
                .setCampaign("shop")
                .setContext(Context.newBuilder().setDevice("mobile"))
                .build());
    ReportOutcomeResponse reported =
        decisions.reportOutcome(
            ReportOutcomeRequest.newBuilder()
                .setCampaign("shop")
                .setDecisionId(decision.getDecisionId())
                .setOutcome("purchase")
                .build());
    System.out.println(
        decision.getOfferId() + " " + decision.getProbability() + " " + reported.getStatus());
    channel.shutdownNow();
  }
}
