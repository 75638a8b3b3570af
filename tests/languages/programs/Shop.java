// Decides and reports in Java.
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import tilbud.v1.Context;
import tilbud.v1.DecideRequest;
import tilbud.v1.DecideResponse;
import tilbud.v1.DecisionServiceGrpc;
import tilbud.v1.FeatureValue;
import tilbud.v1.ReportOutcomeRequest;
import tilbud.v1.ReportOutcomeResponse;

public final class Shop {
  public static void main(String[] arguments) {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    DecisionServiceGrpc.DecisionServiceBlockingStub decisions =
        DecisionServiceGrpc.newBlockingStub(channel).withWaitForReady();

    DecideResponse decision;
    try {
      decision =
          decisions
              .withDeadlineAfter(250, TimeUnit.MILLISECONDS)
              .decide(
                  DecideRequest.newBuilder()
                      .setCampaign("shop")
                      .setDecisionId(UUID.randomUUID().toString()) // a repeated call is the same decision
                      .setContext(
                          Context.newBuilder()
                              .setDevice("mobile")
                              .putFeatures("basket_value", FeatureValue.newBuilder().setNumber(42.5).build()))
                      .build());
    } catch (StatusRuntimeException problem) {
      switch (problem.getStatus().getCode()) {
        case UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, CANCELLED, INTERNAL ->
            // The service is away: what is shown without it.
            decision = DecideResponse.newBuilder().setOfferId("house").build();
        default -> throw problem; // the question is wrong
      }
    }
    System.out.print(decision.getOfferId() + " " + decision.getProbability());

    if (decision.getRecorded()) { // else there is nothing to report against
      ReportOutcomeResponse reported =
          decisions
              .withDeadlineAfter(10, TimeUnit.SECONDS)
              .reportOutcome( // where this fails, keep the outcome and report it later: it counts once
                  ReportOutcomeRequest.newBuilder()
                      .setCampaign("shop")
                      .setDecisionId(decision.getDecisionId())
                      .setOutcome("purchase")
                      .build());
      System.out.println(" " + reported.getStatus());
    }
    channel.shutdownNow();
  }
}
