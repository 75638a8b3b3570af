"""What `--help` of a command shows last: how it is used."""

from __future__ import annotations

_EXAMPLES = {
    "serve": "tilbud serve --campaigns campaigns/ --data tilbud-data",
    "health": "tilbud health --listen 127.0.0.1:50051",
    "backup": "tilbud backup --data tilbud-data --to backups/monday",
    "rebuild": "tilbud rebuild --campaigns campaigns/ --data tilbud-data",
    "assets": "tilbud assets tilbud-assets",
    "new": "tilbud new spring-sale",
    "check": "tilbud check campaigns/",
    "simulate": "tilbud simulate campaigns/spring-sale.yaml\n"
    "tilbud simulate --campaign shop --decisions 10000",
    "replay": "tilbud replay mails.csv --campaign mails --offer-column mail --outcome-column visit",
    "decide": "tilbud decide shop --device mobile --channel app --ranking\n"
    "tilbud decide homepage-hero --customer-id anna --consent granted --feature basket_value=45",
    "activate": "tilbud activate shop order-1",
    "outcome": "tilbud outcome shop order-1 purchase --value 1.5",
    "explain": "tilbud explain shop order-1",
    "campaigns": "tilbud campaigns\ntilbud campaigns shop --format json",
    "pause": 'tilbud pause shop pay-later --reason "the bank is down" --for 2h',
    "resume": "tilbud resume shop pay-later",
    "customer show": "tilbud customer show anna",
    "customer update": "tilbud customer update anna --consent granted --trait loyalty_tier=gold\n"
    "tilbud customer update anna --block-topic sale --quiet-hours 21:00-08:00",
    "customer event": "tilbud customer event anna add_to_cart",
    "customer export": "tilbud customer export anna > anna.jsonl",
    "customer erase": "tilbud customer erase anna",
}


def example(command: str) -> str:
    """Return the examples of a command as Markdown."""
    return f"Example:\n```console\n{_EXAMPLES[command]}\n```"
