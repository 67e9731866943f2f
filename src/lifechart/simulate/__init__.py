"""A hospital whose truth is known: lives from birth to death or today, and the best forecast that anyone could make.

Read in this order: `tables` (what the medicine says), `processes` and `physiology` (the tables as arrays), `state`
(what a record shows so far, and how it drives what comes next), `care` and `course` (one month of many lives),
`population` and `hospital` (whole lives, written to disk), `replay` (a record read back into sufficient statistics),
`posterior` and `futures` (what the record says of the latents; what may come), `oracle` (the two ceilings).

Files under `SIM/truth/`
- `people.parquet`: life Int32, patient_id String (FHIR Patient.id), birth Datetime (midnight), death Datetime or null,
  sex (female, male), ancestry (a key of ancestries.csv), language, height (cm, adult).
- `events.parquet`: life Int32, time Datetime(us), kind String, key String, value Float32, encounter Int32,
  detail String; sorted by life, then time. One row of kind `encounter` opens each encounter (same `time` as the events
  in it); `encounter` numbers them from 0 within a life, in time order (-1: none).

| kind | key | value | detail |
|---|---|---|---|
| encounter | ambulatory, emergency, inpatient | length in hours | reason (below) |
| condition | conditions.csv | - | `test` when a test or a screening found it |
| symptom | symptoms.csv | - | - |
| observation | observations.csv | the result, rounded to its `decimals` | - |
| medication | medications.csv | days supplied | - |
| medication_stop | medications.csv | - | - |
| procedure | procedures.csv | - | - |
| immunization | immunizations.csv | - | - |
| allergy | allergies.csv | - | - |
| death | death | - | - |

An encounter's reason is `routine`, `follow_up`, `admission` (for what is not simulated), `vaccination`, or a key of
conditions, symptoms, procedures or allergies.

- `latent.parquet`: life, then one Float32 column a latent. `occult.parquet`: life, key of the hidden disease, start and
  end (Datetime; end is its diagnosis, or null). `truth.json`: seed, today, number of lives, digest of the tables.
- `unrecorded.parquet`, where a bias is planted (`bias`): life, key of the condition that never reaches the record.
"""
