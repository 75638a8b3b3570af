"""Campaign files that several end-to-end tests serve."""

from __future__ import annotations

RULES = """
campaign: rules
time_zone: Europe/Copenhagen
context:
  devices: [mobile, desktop]
  channels: [web, app]
  journey_stages: [new, loyal]
  features: {tier: category, basket: number, returning: flag}
offers:
  - {id: anyone, payload: {title: For anyone}, features: {kind: plain, margin: 1.5}}
  - {id: app-only, payload: {title: In the app}, channels: [app], features: {kind: plain, margin: 2.5}}
  - {id: big-basket, when: {basket: {gt: 30}}, features: {kind: discount}}
  - {id: not-gold, when: {none_of: [{tier: {eq: gold}}]}}
  - {id: evenings, hours: "18:00-02:00"}
  - {id: loyal-mobile, devices: [mobile], journey_stages: [loyal]}
fallback: {id: welcome, payload: {title: Welcome}}
reward:
  window: 1h
  outcomes: {bought: {weight: 1, final: true}, left: {weight: 0, final: true}, looked: 0.1}
  learn: on_settlement
exploration: {preset: balanced, discovery: 0.05}
variants: {control: {share: 0.1, serves: uniform}}
consent: not_required
"""

SLOW = """
campaign: slow
offers: [{id: one}, {id: two}]
reward:
  window: 1h
  activation_window: 1h
  outcomes: {click: 1}
consent: not_required
"""

# Every rule there is, the customer's included.
MANNERS = """
campaign: manners
time_zone: Europe/Copenhagen
fallback_language: en
context:
  devices: [mobile, desktop]
  channels: [web, app, push]
  journey_stages: [new, loyal]
  features: {tier: category, basket: number}
  traits: {value: {kind: number, max_age: 30d}}
  events: [add_to_cart, support_case, bought]
journey: {bought: loyal}
segments: {big_spender: {value: {gt: 500}}}
groups: {discounts: {caps: [{times: 6, per: 7d}]}}
offers:
  - {id: anyone, payloads: {en: {title: For anyone}, da: {title: Til alle}}}
  - {id: app-only, channels: [app]}
  - {id: ten-off, group: discounts, caps: [{times: 4, per: 7d}], topics: [prices]}
  - {id: twenty-off, group: discounts, when: {basket: {gt: 30}}, topics: [prices]}
  - {id: evenings, hours: "18:00-02:00", suppress_after: {left: 1d, support_case: 1d}}
  - {id: basket, requires: {add_to_cart: 2h}}
  - {id: school, sensitive_topic: family}
  - {id: lounge, when: {big_spender: {eq: true}}}
  - {id: not-gold, when: {none_of: [{tier: {eq: gold}}]}}
  - {id: pocket, devices: [mobile], languages: [da]}
  - {id: newcomers, journey_stages: [new], countries: [DK, NO]}
  - {id: harbour, places: [harbour], valid: {from: 2026-09-21, until: 2026-09-21}}
fallback: {id: welcome}
reward:
  window: 1h
  outcomes: {bought: {weight: 1, final: true}, left: {weight: 0, final: true}}
  learn: on_settlement
exploration: {preset: balanced, discovery: 0.05}
variants: {control: {share: 0.1, serves: uniform}}
consent: not_required
"""

CONTACT = """
channels: {push: {caps: [{times: 5, per: 1d}]}}
quiet_channels: [push]
"""
