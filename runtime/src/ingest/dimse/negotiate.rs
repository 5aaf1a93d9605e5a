//! Who may associate, and for what (PS3.8 section 9.3, PS3.7 annex D).

use std::collections::BTreeMap;
use std::net::IpAddr;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason,
    AssociationRJServiceProviderPresentationReason, AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ,
    PresentationContextProposed, PresentationContextResult, PresentationContextResultReason, RequestorRoles,
    UserVariableItem,
};

use crate::config::{Caller, DimseConfig, UnknownCallers};
use crate::dimse::{self, APPLICATION_CONTEXT, PROTOCOL_VERSION};
use crate::ingest::Uid;
use crate::study;

/// What a presentation context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Verification,
    Storage,
    StorageCommitment,
}

/// An accepted presentation context.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) service: Service,
    pub(super) abstract_syntax: Uid,
    pub(super) transfer_syntax: Uid,
}

/// What was agreed.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) answer: AssociationAC,
    pub(super) contexts: BTreeMap<u8, Context>,
    /// What the peer takes in one PDU; 0 is no limit.
    pub(super) peer_max_bytes: u32,
}

/// A request that is no sound one: to be aborted, not rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadContext;

/// Whether the caller may associate with us at all.
pub(super) fn admit(request: &AssociationRQ, config: &DimseConfig, from: IpAddr) -> Result<(), AssociationRJ> {
    use AssociationRJServiceUserReason as Reason;
    let permanent = |source| Err(AssociationRJ { result: AssociationRJResult::Permanent, source });
    if request.protocol_version & PROTOCOL_VERSION == 0 {
        let reason = AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported;
        return permanent(AssociationRJSource::ServiceProviderASCE(reason));
    }
    let user = |reason| permanent(AssociationRJSource::ServiceUser(reason));
    if plain(&request.application_context_name) != APPLICATION_CONTEXT {
        return user(Reason::ApplicationContextNameNotSupported);
    }
    if request.called_ae_title.trim() != config.ae_title {
        return user(Reason::CalledAETitleNotRecognized);
    }
    let known = caller(config, &request.calling_ae_title, from).is_some();
    if !known && config.unknown_callers == UnknownCallers::Refuse {
        return user(Reason::CallingAETitleNotRecognized);
    }
    Ok(())
}

/// Why the caller may not, for people here. The peer is told no more than the standard has words for: neither who is listed nor
/// from where.
pub(super) fn reason(rejection: &AssociationRJ, request: &AssociationRQ, config: &DimseConfig) -> String {
    use AssociationRJServiceUserReason::CallingAETitleNotRecognized;
    let listed = config.callers.iter().any(|caller| caller.ae_title == request.calling_ae_title.trim());
    match rejection.source {
        AssociationRJSource::ServiceUser(CallingAETitleNotRecognized) if listed => {
            "the calling AE title may only call from its address in dimse.callers".into()
        }
        _ => dimse::reason(rejection),
    }
}

/// The configured caller of this title, if it calls from where it may.
pub(super) fn caller<'a>(config: &'a DimseConfig, title: &str, from: IpAddr) -> Option<&'a Caller> {
    config.callers.iter().find(|caller| is_caller(caller, title, from))
}

/// Whether this is the one of the title, and may call from there.
pub(super) fn is_caller(caller: &Caller, title: &str, from: IpAddr) -> bool {
    let here = caller.address.is_none_or(|address| address.to_canonical() == from.to_canonical());
    here && caller.ae_title == title.trim()
}

/// For one association too many: the peer may try again.
pub(super) fn full() -> AssociationRJ {
    let reason = AssociationRJServiceProviderPresentationReason::LocalLimitExceeded;
    AssociationRJ {
        result: AssociationRJResult::Transient,
        source: AssociationRJSource::ServiceProviderPresentation(reason),
    }
}

/// Answers each proposed context.
pub(super) fn agree(request: &AssociationRQ, config: &DimseConfig) -> Result<Agreed, BadContext> {
    let mut contexts = BTreeMap::new();
    let mut results = Vec::new();
    let mut seen = [false; 256];
    for proposed in &request.presentation_contexts {
        // Odd, and each once (PS3.8 section 9.3.2.2).
        if proposed.id % 2 == 0 || std::mem::replace(&mut seen[usize::from(proposed.id)], true) {
            return Err(BadContext);
        }
        let (reason, transfer_syntax) = match choose(proposed) {
            Ok(context) => {
                let syntax = context.transfer_syntax.to_string();
                contexts.insert(proposed.id, context);
                (PresentationContextResultReason::Acceptance, syntax)
            }
            // Not significant, and must be there.
            Err(reason) => (reason, uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        };
        results.push(PresentationContextResult { id: proposed.id, reason, transfer_syntax });
    }
    // The peer asks and we serve, whatever else it could do (PS3.7 annex D.3.3.4), but for storage commitment: there a peer that we
    // asked before reports.
    let roles = request.user_variables.iter().filter_map(|variable| match variable {
        UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) => {
            let reports = class.trim_end_matches(['\0', ' ']) == uids::STORAGE_COMMITMENT_PUSH_MODEL;
            let roles = RequestorRoles { scu: roles.scu, scp: roles.scp && reports };
            Some(UserVariableItem::ScuScpRoleSelectionSubItem(class.clone(), roles))
        }
        _ => None,
    });
    let variables = dimse::own_variables(config.pdu_max_bytes).into_iter().chain(roles).collect();
    let peer_max_bytes = dimse::takes(&request.user_variables);
    let answer = AssociationAC {
        protocol_version: PROTOCOL_VERSION,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: results,
        user_variables: variables,
    };
    Ok(Agreed { answer, contexts, peer_max_bytes })
}

/// The first transfer syntax that is proposed and can be read: images are kept as they come, so the sender's wish counts.
fn choose(proposed: &PresentationContextProposed) -> Result<Context, PresentationContextResultReason> {
    let abstract_syntax = Uid::parse(&proposed.abstract_syntax);
    let known = abstract_syntax.and_then(|uid| Some((service(uid.as_str())?, uid)));
    let (service, abstract_syntax) = known.ok_or(PresentationContextResultReason::AbstractSyntaxNotSupported)?;
    let readable = |uid: &Uid| match service {
        Service::Storage => study::readable_syntax(uid.as_str()),
        Service::Verification | Service::StorageCommitment => {
            matches!(uid.as_str(), uids::IMPLICIT_VR_LITTLE_ENDIAN | uids::EXPLICIT_VR_LITTLE_ENDIAN)
        }
    };
    let syntaxes = proposed.transfer_syntaxes.iter().filter_map(|uid| Uid::parse(uid));
    let transfer_syntax = syntaxes.into_iter().find(readable);
    let transfer_syntax = transfer_syntax.ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)?;
    Ok(Context { service, abstract_syntax, transfer_syntax })
}

/// Which service an abstract syntax is of. Storage is every class of PS3.4 table B.5-1, also retired and yet to come, and
/// what vendors define under their own roots. Of objects without patient and study (PS3.4 annex GG) there is nothing to file.
fn service(abstract_syntax: &str) -> Option<Service> {
    match abstract_syntax {
        uids::VERIFICATION => return Some(Service::Verification),
        uids::STORAGE_COMMITMENT_PUSH_MODEL => return Some(Service::StorageCommitment),
        _ => {}
    }
    let Some(standard) = abstract_syntax.strip_prefix("1.2.840.10008.") else { return Some(Service::Storage) };
    let storage = match standard.strip_prefix("5.1.4.1.1.") {
        // Defined protocols and their approval, inventories, and queries for both.
        Some("200.1" | "200.3" | "200.4" | "200.5" | "200.6" | "200.7") => false,
        Some(class) => !class.starts_with("201."),
        // RT beams and brachy delivery instructions, stored print and hardcopies.
        None => matches!(standard, "5.1.4.34.7" | "5.1.4.34.10" | "5.1.1.27" | "5.1.1.29" | "5.1.1.30"),
    };
    storage.then_some(Service::Storage)
}

fn plain(uid: &str) -> &str {
    uid.trim_end_matches(['\0', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AssociationRQ {
        AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "CT1".into(),
            called_ae_title: "GANTRY".into(),
            application_context_name: APPLICATION_CONTEXT.into(),
            presentation_contexts: Vec::new(),
            user_variables: vec![UserVariableItem::MaxLength(4096)],
        }
    }

    fn proposed(id: u8, abstract_syntax: &str, syntaxes: &[&str]) -> PresentationContextProposed {
        let transfer_syntaxes = syntaxes.iter().map(|&uid| uid.to_owned()).collect();
        PresentationContextProposed { id, abstract_syntax: abstract_syntax.into(), transfer_syntaxes }
    }

    #[test]
    fn who_may_not_is_told_why() {
        use AssociationRJServiceUserReason as Reason;
        let here: IpAddr = [192, 0, 2, 1].into();
        let caller = Caller { ae_title: "CT1".into(), address: Some(here), port: None, tls: None };
        let config = DimseConfig { callers: vec![caller], ..DimseConfig::default() };
        let reason = |request: AssociationRQ, from| admit(&request, &config, from).expect_err("rejected").source;
        admit(&request(), &config, here).expect("admitted");
        for (rejected, from, expected) in [
            (AssociationRQ { called_ae_title: "OTHER".into(), ..request() }, here, Reason::CalledAETitleNotRecognized),
            (AssociationRQ { calling_ae_title: "CT2".into(), ..request() }, here, Reason::CallingAETitleNotRecognized),
            (request(), [192, 0, 2, 2].into(), Reason::CallingAETitleNotRecognized),
            (
                AssociationRQ { application_context_name: "1.2".into(), ..request() },
                here,
                Reason::ApplicationContextNameNotSupported,
            ),
        ] {
            assert_eq!(reason(rejected, from), AssociationRJSource::ServiceUser(expected));
        }
        let elsewhere = |title: &str| {
            let request = AssociationRQ { calling_ae_title: title.into(), ..request() };
            let rejection = admit(&request, &config, [192, 0, 2, 2].into()).expect_err("rejected");
            super::reason(&rejection, &request, &config)
        };
        assert_eq!(elsewhere("CT1 "), "the calling AE title may only call from its address in dimse.callers");
        assert_eq!(elsewhere("CT2"), Reason::CallingAETitleNotRecognized.to_string());
        let version = reason(AssociationRQ { protocol_version: 2, ..request() }, here);
        assert!(matches!(version, AssociationRJSource::ServiceProviderASCE(_)), "{version:?}");
    }

    #[test]
    fn contexts_are_answered_one_by_one() {
        use PresentationContextResultReason as Reason;
        let presentation_contexts = vec![
            proposed(1, uids::CT_IMAGE_STORAGE, &["1.2.3", uids::JPEG2000_LOSSLESS, uids::IMPLICIT_VR_LITTLE_ENDIAN]),
            proposed(3, uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, &[uids::IMPLICIT_VR_LITTLE_ENDIAN]),
            proposed(5, "1.3.12.2.1107.5.9.1", &[uids::EXPLICIT_VR_LITTLE_ENDIAN]),
            proposed(7, uids::VERIFICATION, &[uids::JPEG2000_LOSSLESS]),
            proposed(9, "../../etc/x", &[uids::IMPLICIT_VR_LITTLE_ENDIAN]),
        ];
        let agreed =
            agree(&AssociationRQ { presentation_contexts, ..request() }, &DimseConfig::default()).expect("sound");
        let reasons: Vec<_> = agreed.answer.presentation_contexts.iter().map(|r| r.reason.clone()).collect();
        let (no_class, no_syntax) = (Reason::AbstractSyntaxNotSupported, Reason::TransferSyntaxesNotSupported);
        assert_eq!(reasons, [Reason::Acceptance, no_class.clone(), Reason::Acceptance, no_syntax, no_class]);
        assert_eq!(agreed.contexts[&1].transfer_syntax.as_str(), uids::JPEG2000_LOSSLESS);
        assert_eq!(agreed.peer_max_bytes, 4096);
    }

    #[test]
    fn a_context_number_that_is_even_or_comes_twice_is_no_request() {
        let one = proposed(1, uids::VERIFICATION, &[uids::IMPLICIT_VR_LITTLE_ENDIAN]);
        let even = PresentationContextProposed { id: 2, ..one.clone() };
        for presentation_contexts in [vec![even], vec![one.clone(), one]] {
            let wrong = AssociationRQ { presentation_contexts, ..request() };
            assert_eq!(agree(&wrong, &DimseConfig::default()).err(), Some(BadContext));
        }
    }

    #[test]
    fn only_what_can_be_filed_is_storage() {
        for storage in
            ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.200.2", "1.2.840.10008.5.1.1.29", "2.25.1"]
        {
            assert_eq!(service(storage), Some(Service::Storage), "{storage}");
        }
        for other in ["1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.4.1.1.201.5"] {
            assert_eq!(service(other), None, "{other}");
        }
    }
}
